#!/usr/bin/env python3
"""The part of scripts/quickstart after the build: collects data, trains, compares, predicts.

Everything goes to runs/quickstart; to start anew, delete it.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOVEA = ROOT / "build/release/bin/fovea"
CONFIG = ROOT / "examples/quickstart/config.toml"
OUT = pathlib.Path("runs/quickstart")
SAMPLE_FILES = ["scripts/quickstart", "scripts/count_tests.py", "fovea/core/parallel.cpp", "CMakeLists.txt"]


def say(text):
    print(f"quickstart: {text}", file=sys.stderr, flush=True)


def fovea(*arguments, text=None):
    """Runs the program; returns its output, the seconds it took and the most memory it held, in MB."""
    print("$ fovea " + " ".join(map(str, arguments)), file=sys.stderr, flush=True)
    started = time.monotonic()
    process = subprocess.Popen(
        [FOVEA, *map(str, arguments)], stdout=subprocess.PIPE, text=True,
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
    )
    if text is not None:
        process.stdin.write(text)
        process.stdin.close()
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"quickstart: fovea ended with exit code {process.returncode}")
    return output, time.monotonic() - started, usage.ru_maxrss / 1000


def head_of(source, target, lines):
    with open(source, encoding="utf-8") as file:
        kept = [line for _, line in zip(range(lines), file)]
    target.write_text("".join(kept), encoding="utf-8")
    return target


def train(model, *options):
    """Returns training tokens per second (the median of the log) and peak memory."""
    _, _, megabytes = fovea("train", "--config", CONFIG, "--out", model, "--overwrite", *options)
    speeds = [
        row["tokens_per_second"]
        for row in map(json.loads, (model / "log.jsonl").read_text(encoding="utf-8").splitlines())
        if "tokens_per_second" in row
    ]
    return statistics.median(speeds[1:] or speeds), megabytes


def inference(model, data):
    """Returns kB per second and peak memory of reading `data`; loading the model is not counted."""
    one = head_of(data, OUT / "one.jsonl", 1)
    _, start, _ = fovea("eval", "--model", model, "--data", one, "--json")
    _, seconds, megabytes = fovea("eval", "--model", model, "--data", data, "--json")
    sizes = [
        min(len(json.loads(line)["text"].encode()), 8192)
        for line in data.read_text(encoding="utf-8").splitlines()
    ]
    return sum(sizes[1:]) / 1000 / (seconds - start), megabytes


def main():
    os.chdir(ROOT)
    OUT.mkdir(parents=True, exist_ok=True)
    train_file, valid_file, test_file = (OUT / f"data/{name}.jsonl" for name in ("train", "valid", "test"))

    say("3/4 collecting source files of this machine, no package in two splits, and training on them")
    print(fovea("data", "sources", "--valid-files", 80, "--out", OUT / "data")[0])
    baseline = json.loads(
        fovea("data", "baseline", "--features", "bytes", "--train", train_file, "--test", test_file, "--json")[0]
    )
    window = OUT / "model"
    train(window, "--train", train_file, "--valid", valid_file)
    scores = json.loads(fovea("eval", "--model", window, "--data", test_file, "--json")[0])

    say("4/4 the same model with full attention, for the cost: a short training, and reading the same files")
    few = head_of(valid_file, OUT / "few.jsonl", 8)
    short = ["--train", train_file, "--valid", few, "--tokenizer.file", window / "tokenizer.json",
             "--train.max_steps", 6, "--train.log_every", 1]
    window_train = train(OUT / "short", *short)
    full_train = train(OUT / "short", *short, "--attention", "full")
    full = OUT / "model-full"
    shutil.rmtree(full, ignore_errors=True)
    shutil.copytree(window, full, ignore=shutil.ignore_patterns("checkpoint*"))
    config = json.loads((full / "config.json").read_text(encoding="utf-8"))
    pattern = config["attention"]
    config["attention"] = "full"
    (full / "config.json").write_text(json.dumps(config), encoding="utf-8")
    some = head_of(test_file, OUT / "some.jsonl", 100)
    window_eval, full_eval = inference(window, some), inference(full, some)

    samples = "".join(
        json.dumps({"id": name, "text": (ROOT / name).read_text(encoding="utf-8")}) + "\n" for name in SAMPLE_FILES
    )
    predictions = fovea("predict", "--model", window, text=samples)[0]

    print(f"\nThe language of a file from its first 8,192 bytes; {scores['examples']} files of packages never seen:\n")
    print(f"    fovea, {pattern:<27} macro-F1 {100 * scores['macro_f1']:5.1f} %")
    print(f"    naive Bayes, byte n-grams         macro-F1 {100 * baseline['macro_f1']:5.1f} %")
    print("\nThe same model with full attention:\n")
    print(f"    {'':<12} {'training':>16} {'memory':>10} {'reading':>16} {'memory':>10}")
    for name, training, reading in [(pattern, window_train, window_eval), ("full", full_train, full_eval)]:
        print(
            f"    {name:<12} {training[0]:>7,.0f} tokens/s {training[1]:>7,.0f} MB"
            f" {reading[0]:>11,.0f} kB/s {reading[1]:>7,.0f} MB"
        )
    print("\n    Full attention reads with the same weights; its cost grows with the square of the length.")
    print("\nFiles of this repository (fovea predict):\n")
    for line in predictions.splitlines():
        row = json.loads(line)
        print(f"    {row['id']:<26} {row['label']} ({100 * row['probabilities'][row['label']]:.0f} %)")
    print(f"""
The model is a folder, {window}. Next:

    build/release/bin/fovea predict --model {window} < FILE.jsonl      labels for your own texts
    build/release/bin/fovea data check --train YOUR.jsonl              looks at your own data: fields text and label
    build/release/bin/fovea train --train YOUR.jsonl --out runs/mine   and trains on it
    build/release/bin/fovea plan --attention 'window(64)|global(1)' --length 4096
""")


if __name__ == "__main__":
    main()
