#!/usr/bin/env python3
"""Compares the mechanisms of attention on equal terms: parameters within a tenth, the same data and steps.

    bench/mechanisms.py train listops [--data runs/mechanisms] [--only linear nsa] [--seeds 1 2 3] [--steps N]
    bench/mechanisms.py train imdb    [--data runs/imdb]       [--seeds 1]
    bench/mechanisms.py lengths       [--most 131072]

`train` appends a line a run to bench/results/mechanisms.jsonl: test accuracy, the accuracy on the validation
examples over the seconds of training, tokens/s of training and of prediction, peak memory. listops: expressions of
128 to 512 symbols, made here; imdb: reviews as bytes, cut to 2,048 (examples/imdb/prepare). `lengths` appends
to mechanism_lengths.jsonl the time and peak memory of one layer's training step and prediction against the length.
What is there already (same task, mechanism, seed and steps) is not run again: an interrupted comparison goes on.
"""
import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

from train_example import run

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench/results"

# Layer lists; LOCAL says how far a token of a local mechanism sees.
LOCAL = 64
MECHANISMS = {
    "full": "full",
    "window": f"window({LOCAL})",
    "window|global": f"window({LOCAL})|global(1)",
    "block_neighbours": f"block_neighbours({LOCAL})",
    "linear": "linear",
    "gated_deltanet": "gated_deltanet",
    "window+linear": f"window({LOCAL})+linear",
    "gate(window+linear)": f"gate(window({LOCAL})+linear)",
    "hmatrix": f"hmatrix({LOCAL})",
    "nsa": f"nsa({LOCAL},4,{2 * LOCAL})",
    "moba": f"moba({LOCAL},4)",
}
MODEL = ["--model.layers", "2", "--model.model_dim", "128", "--model.heads", "4", "--model.dropout", "0.1"]
# A gated delta layer has 7 model_dim² weights where the others have 4: its feed-forward pays for them.
FF_DIM, FF_DIM_OF = 512, {"gated_deltanet": 320}
TASKS = {
    "listops": ["--tokenizer.kind", "word", "--tokenizer.split", "whitespace", "--tokenizer.min_count", "1",
                "--model.pooling", "first", "--model.max_length", "512", "--train.batch_tokens", "16384",
                "--train.lr", "1e-3", "--train.warmup_steps", "100", "--train.weight_decay", "0.1"],
    "imdb": ["--tokenizer.kind", "bytes", "--data.truncate", "head", "--model.pooling", "mean",
             "--model.max_length", "2048", "--train.batch_tokens", "16384", "--train.lr", "1e-3",
             "--train.warmup_steps", "100", "--train.weight_decay", "0.1"],
}
STEPS = {"listops": 600, "imdb": 400}


def rows_of(name):
    path = RESULTS / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(name, row):
    row["date"] = datetime.date.today().isoformat()
    with open(RESULTS / name, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def make_listops(program, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", 40000, 1), ("valid", 1000, 2), ("test", 2000, 3)):
        if not (folder / f"{name}.jsonl").exists():
            run([program, "data", "listops", "--out", str(folder / f"{name}.jsonl"), "--count", str(count), "--seed",
                 str(seed), "--min-length", "128", "--max-length", "512", "--max-depth", "6", "--max-args", "6"])


def history(log):
    """[seconds, validation accuracy] of each evaluation; seconds of the last update before it."""
    seconds, points = 0.0, []
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        seconds = entry.get("seconds", seconds)
        if "valid" in entry:
            points.append([round(seconds, 1), entry["valid"]["accuracy"]])
    return points


def train(args):
    program = [args.program, "--threads", str(args.threads)]
    data = args.data or ROOT / ("runs/imdb" if args.task == "imdb" else "runs/mechanisms")
    if args.task == "listops":
        make_listops(args.program, data)
    steps = args.steps or STEPS[args.task]
    test = data / ("devtest.jsonl" if args.task == "imdb" else "test.jsonl")
    done = {(r["task"], r["mechanism"], r["seed"], r["steps"]) for r in rows_of("mechanisms.jsonl")}
    for seed in args.seeds:
        for name in args.only or MECHANISMS:
            if (args.task, name, seed, steps) in done:
                continue
            out = data / "models" / f"compared-{name.replace('|', '_')}-{seed}"
            flags = [*TASKS[args.task], *MODEL, "--attention", MECHANISMS[name], "--train.seed", str(seed),
                     "--model.ff_dim", str(FF_DIM_OF.get(name, FF_DIM)), "--train.max_steps", str(steps),
                     "--train.epochs", "1000", "--train.eval_every", str(max(1, steps // 6))]
            _, peak = run([*program, "train", *flags, "--train", str(data / "train.jsonl"), "--valid",
                           str(data / "valid.jsonl"), "--out", str(out), "--overwrite"])
            record = json.loads((out / "run.json").read_text())
            scores = json.loads(run([*program, "eval", "--model", str(out), "--data", str(test), "--json"])[0])
            points = history(out / "log.jsonl")
            append("mechanisms.jsonl", dict(
                task=args.task, mechanism=name, attention=MECHANISMS[name], seed=seed, steps=steps,
                parameters=record["parameters"], accuracy=scores["accuracy"], history=points,
                train_tokens_per_second=round(record["result"]["tokens"] / points[-1][0]),
                peak_mib=round(peak), precision=record["precision"], threads=args.threads,
                command=" ".join(["fovea train", *flags]), machine=record["machine"], versions=record["versions"]))


def lengths(args):
    done = {(r["mechanism"], r["step"], r["length"]) for r in rows_of("mechanism_lengths.jsonl")}
    length = 1024
    while length <= args.most:
        for name in args.only or MECHANISMS:
            for step in ("inference", "train"):
                if (name, step, length) in done or (name == "full" and length > args.most_full):
                    continue
                flags = ["--step", step, "--precision", args.precision, "--length", str(length), "--max-length", str(length),
                         "--attention", MECHANISMS[name], *MODEL, "--model.ff_dim", str(FF_DIM_OF.get(name, FF_DIM)),
                         "--repeat", "2", "--seconds", "0.5", "--json"]
                out, _ = run([args.program, "--threads", str(args.threads), "bench", "model", *flags])
                append("mechanism_lengths.jsonl", dict(mechanism=name, **json.loads(out)))
        length *= 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/fovea"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("train", "lengths"):
        command = commands.add_parser(name)
        command.add_argument("--only", nargs="+", choices=list(MECHANISMS))
        if name == "train":
            command.add_argument("task", choices=list(TASKS))
            command.add_argument("--data", type=Path)
            command.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
            command.add_argument("--steps", type=int)
        else:
            command.add_argument("--most", type=int, default=131072)
            command.add_argument("--most-full", type=int, default=32768)
            command.add_argument("--precision", default="bf16")
    args = parser.parse_args()
    try:
        train(args) if args.command == "train" else lengths(args)
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
