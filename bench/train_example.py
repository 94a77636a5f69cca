#!/usr/bin/env python3
"""Trains and evaluates one variant of an example and appends a line to bench/results/<set>.jsonl.

    bench/train_example.py bbc_news --data runs/bbc_news --test dev [--attention PATTERN] [--seed N]
                           [--name VARIANT] [-- --train.epochs 3 …]

DATA is what examples/<set>/prepare wrote; TEST names its file to evaluate on. Everything runs through
the program, as a user would: train, eval, and the naive Bayes baseline on the same files. Peak memory
is the training process's own; tokens/s are counted over updates, without evaluations.
"""
import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(command):
    """Runs a command; returns (stdout, peak resident MiB)."""
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}: exit code {child.returncode}")
        out.seek(0)
        return out.read(), usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("set")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test", default="test")
    parser.add_argument("--attention", help="default: the config's")
    parser.add_argument("--name", default="config")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--baseline", action="store_true", help="record naive Bayes too")
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/fovea"))
    parser.add_argument("--out", type=Path, help="model folder; default DATA/models/<name>-<seed>")
    parser.add_argument("--results", type=Path)
    parser.epilog = "What follows -- goes to fovea train."
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, more = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1:]
    results = args.results or ROOT / f"bench/results/{args.set}.jsonl"
    out = args.out or args.data / "models" / f"{args.name}-{args.seed}"
    test = args.data / f"{args.test}.jsonl"

    flags = ["--config", f"examples/{args.set}/config.toml", "--train.seed", str(args.seed)]
    if args.attention:
        flags += ["--attention", args.attention]
    flags += more
    os.chdir(ROOT)
    program = [args.program, "--threads", str(args.threads)]
    _, peak = run(program + ["train", *flags, "--train", str(args.data / "train.jsonl"), "--valid",
                             str(args.data / "valid.jsonl"), "--out", str(out), "--overwrite"])
    scores = json.loads(run(program + ["eval", "--model", str(out), "--data", str(test), "--json"])[0])
    record = json.loads((out / "run.json").read_text())
    result = record["result"]
    row = dict(
        set=args.set, variant=args.name, attention=record["config"]["model"]["attention"],
        seed=args.seed, test=args.test, accuracy=scores["accuracy"], macro_f1=scores["macro_f1"],
        loss=scores["loss"], examples=scores["examples"], truncated=scores["truncated"],
        valid=result["valid"], steps=result["steps"], best_step=result["best_step"],
        minutes=round(result["minutes"], 2), parameters=record["parameters"],
        tokens_per_second=round(result["tokens"] / (60 * result["minutes"])),
        peak_mib=round(peak), precision=record["precision"], threads=args.threads,
        command=" ".join(["fovea train", *flags]), machine=record["machine"],
        versions=record["versions"], date=datetime.date.today().isoformat())
    with open(results, "a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row))
    if args.baseline:
        baseline, _ = run([args.program, "data", "baseline", "--train", str(args.data / "train.jsonl"),
                           "--test", str(test), "--features", "words", "--json"])
        row = dict(set=args.set, variant="naive_bayes", test=args.test, date=row["date"],
                   **json.loads(baseline))
        with open(results, "a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
