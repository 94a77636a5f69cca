#!/usr/bin/env python3
"""Compares the mechanisms of attention on equal terms: parameters within a tenth, the same data and steps.

    bench/mechanisms.py train listops|recall|imdb [--only linear nsa] [--seeds 1 2 3]
    bench/mechanisms.py speed listops|recall|imdb [--only linear nsa]
    bench/mechanisms.py lengths [--most 131072]

`train` appends a line a run to bench/results/mechanisms.jsonl: test accuracy, and [step, accuracy on the validation
examples] on the way; no times, so it may share the machine. `speed` appends to mechanism_speed.jsonl, on a quiet
machine, what that training and its evaluation cost: tokens/s and peak memory. listops: expressions of 128 to 512
symbols, made here; recall: documents of 64 words whose class stands 20 words or more from the word that must know
it, made here; imdb: reviews as bytes, cut to 2,048 (examples/imdb/prepare runs/imdb). `lengths` appends to
mechanism_lengths.jsonl the time and peak memory of a model's training step and prediction against the length.
What is there already (same task, mechanism, seed and steps) is not run again: an interrupted comparison goes on.
"""
import argparse
import dataclasses
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from train_example import run

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench/results"

# Layer lists; w is the task's local reach.
MECHANISMS = {
    "full": "full",
    "window": "window({w})",
    "window|global": "window({w})|global(1)",
    "block_neighbours": "block_neighbours({w})",
    "linear": "linear",
    "gated_deltanet": "gated_deltanet",
    "window+linear": "window({w})+linear",
    "gate(window+linear)": "gate(window({w})+linear)",
    "window+hedgehog": "window({w})+hedgehog",
    "gate(window+hedgehog)": "gate(window({w})+hedgehog)",
    "hmatrix": "hmatrix({w})",
    "nsa": "nsa({w},4,{2w})",
    "moba": "moba({w},4)",
}
WORDS = ["--tokenizer.kind", "word", "--tokenizer.split", "whitespace", "--tokenizer.min_count", "1"]


@dataclasses.dataclass
class Task:
    """A data set and how every mechanism is trained on it."""
    w: int
    model: tuple  # layers, model_dim, heads, ff_dim
    steps: int
    pooling: str
    flags: list

    def model_flags(self, name):
        """A recurrence has more weights than the others, for which its feed-forward pays, and its first token sees no other."""
        layers, dim, heads, ff_dim = self.model
        recurrent = name == "gated_deltanet"
        return ["--attention", attention(name, self.w), "--model.layers", str(layers), "--model.model_dim", str(dim),
                "--model.heads", str(heads), "--model.ff_dim", str(ff_dim - dim // 2 * recurrent),
                "--model.pooling", "mean" if recurrent else self.pooling]


TASKS = {
    "listops": Task(32, (2, 64, 2, 192), 300, "first", [*WORDS, "--model.max_length", "512", "--model.dropout", "0.1",
                    "--train.batch_tokens", "8192", "--train.lr", "2e-3", "--train.warmup_steps", "100"]),
    "recall": Task(4, (3, 64, 2, 192), 1300, "first", [*WORDS, "--model.max_length", "128", "--model.dropout", "0",
                   "--train.batch_tokens", "4096", "--train.lr", "3e-3", "--train.warmup_steps", "100"]),
    "imdb": Task(64, (2, 64, 2, 192), 500, "mean", ["--tokenizer.kind", "byte", "--data.truncate", "head",
                 "--model.max_length", "2048", "--model.dropout", "0.1", "--train.batch_tokens", "16384", "--train.lr",
                 "2e-3", "--train.warmup_steps", "100"]),
}
DATA = ROOT / "runs/mechanisms"


def attention(name, w):
    return MECHANISMS[name].replace("{w}", str(w)).replace("{2w}", str(2 * w))


def rows_of(name):
    path = RESULTS / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(name, row):
    row["date"] = datetime.date.today().isoformat()
    with open(RESULTS / name, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def make(program, task, folder):
    """Writes train, valid and test.jsonl of a task, unless they are there."""
    if (folder / "test.jsonl").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if task == "recall":
        run([program, "data", "recall", "--out", str(folder), "--length", "64", "--min-distance", "20", "--train", "12000"])
    if task == "listops":  # as the Long Range Arena draws them, but shorter
        for name, count, seed in (("train", 40000, 1), ("valid", 400, 2), ("test", 1000, 3)):
            run([program, "data", "listops", "--out", str(folder / f"{name}.jsonl"), "--count", str(count), "--seed", str(seed),
                 "--min-length", "128", "--max-length", "512", "--max-depth", "10", "--max-args", "10"])
    if task == "imdb":  # of examples/imdb/prepare
        for name, source, count in (("train", "train", None), ("valid", "valid", 250), ("test", "devtest", None)):
            lines = (ROOT / "runs/imdb" / f"{source}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
            (folder / f"{name}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")


def log_of(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def train_one(args, name, seed, steps, more):
    """Trains one mechanism; (model folder, flags, peak MiB, path of the test set)."""
    task = TASKS[args.task]
    data = DATA / args.task
    make(args.program, args.task, data)
    out = data / "models" / f"{name.replace('|', '_')}-{seed}"
    flags = [*task.flags, *task.model_flags(name), "--train.weight_decay", "0.1", "--train.seed", str(seed),
             "--train.epochs", "1000", "--train.max_steps", str(steps), "--train.metric", "accuracy", *more]
    train_set, valid_set, test_set = (str(data / f"{file}.jsonl") for file in ("train", "valid", "test"))
    _, peak = run([args.program, "--threads", str(args.threads), "train", *flags, "--train", train_set, "--valid", valid_set,
                   "--out", str(out), "--overwrite"])
    return out, flags, round(peak), test_set


def train(args):
    steps = TASKS[args.task].steps
    done = {(r["task"], r["mechanism"], r["seed"], r["steps"]) for r in rows_of("mechanisms.jsonl")}
    for seed in args.seeds:
        for name in args.only or MECHANISMS:
            if (args.task, name, seed, steps) in done:
                continue
            out, flags, _, test_set = train_one(args, name, seed, steps, ["--train.eval_every", str(steps // 5)])
            record = json.loads((out / "run.json").read_text())
            scores = json.loads(run([args.program, "--threads", str(args.threads), "eval", "--model", str(out), "--data",
                                     test_set, "--json"])[0])
            append("mechanisms.jsonl", dict(
                task=args.task, mechanism=name, seed=seed, steps=steps, tokens=record["result"]["tokens"],
                parameters=record["parameters"], accuracy=scores["accuracy"],
                history=[[e["step"], e["valid"]["accuracy"]] for e in log_of(out) if "valid" in e],
                precision=record["precision"], command=" ".join(["fovea train", *flags]), machine=record["machine"],
                versions=record["versions"]))


def speed(args):
    """Steps 9 to 32; evaluation of the validation set less the start of the program."""
    done = {(r["task"], r["mechanism"]) for r in rows_of("mechanism_speed.jsonl")}
    for name in args.only or MECHANISMS:
        if (args.task, name) in done:
            continue
        out, _, peak, _ = train_one(args, name, 0, 32, ["--train.log_every", "8"])
        log = log_of(out)
        valid_set = DATA / args.task / "valid.jsonl"
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as one, open(valid_set, encoding="utf-8") as lines:
            one.write(next(lines))
            one.flush()
            start, seconds = (evaluate(args, out, path) for path in (one.name, valid_set))
        record = json.loads((out / "run.json").read_text())
        append("mechanism_speed.jsonl", dict(
            task=args.task, mechanism=name,
            train_tokens_per_second=round(statistics.median(e["tokens_per_second"] for e in log[1:] if "loss" in e)),
            evaluation_tokens_per_second=round(record["data"]["valid"]["tokens"] / (seconds - start)), peak_mib=peak, threads=args.threads,
            precision=record["precision"], machine=record["machine"], versions=record["versions"]))


def evaluate(args, model, data):
    """Least of two times, in seconds."""
    times = []
    for _ in range(2):
        begin = time.monotonic()
        run([args.program, "--threads", str(args.threads), "eval", "--model", str(model), "--data", str(data), "--json"])
        times.append(time.monotonic() - begin)
    return min(times)


def lengths(args):
    done = {(r["mechanism"], r["step"], r["length"]) for r in rows_of("mechanism_lengths.jsonl")}
    length = 2048
    while length <= args.most:
        for name in args.only or MECHANISMS:
            for step in ("inference", "train"):
                if (name, step, length) in done or (name == "full" and length > args.most_full):
                    continue
                flags = ["--step", step, "--precision", args.precision, "--length", str(length), "--max-length", str(length),
                         *TASKS["imdb"].model_flags(name),
                         "--repeat", "2", "--seconds", "0.5", "--json"]
                out, _ = run([args.program, "--threads", str(args.threads), "bench", "model", *flags])
                append("mechanism_lengths.jsonl", dict(mechanism=name, **json.loads(out)))
        length *= 4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/fovea"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    commands = parser.add_subparsers(dest="command", required=True)
    for function in (train, speed, lengths):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        command.add_argument("--only", nargs="+", choices=list(MECHANISMS))
        if function is not lengths:
            command.add_argument("task", choices=list(TASKS))
        if function is train:
            command.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
        if function is lengths:
            command.add_argument("--most", type=int, default=131072)
            command.add_argument("--most-full", type=int, default=32768)
            command.add_argument("--precision", default="bf16")
    args = parser.parse_args()
    try:
        args.function(args)
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
