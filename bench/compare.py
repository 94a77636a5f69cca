#!/usr/bin/env python3
"""Tells whether a build is slower than another, beyond the noise of their own measurements.

    fovea bench attention --case ID ... --json >> base.jsonl     alternate the two builds,
    fovea bench attention --case ID ... --json >> new.jsonl      at least 3 times each
    bench/compare.py base.jsonl new.jsonl [--tolerance 3]

Rows are JSON objects with `case` and `ms_min`, as `fovea bench attention`, `bench model` and
bench/attention.py print them (of the last, the rows of contestant fovea). A file may hold a case
several times: its time is the least, its noise how far the least times of repetitions lie apart,
(largest - smallest) / smallest. A case is slower, or faster, when the two times differ by more than
the larger noise of the two files and by more than the tolerance in per cent. A case measured once
in either file has no noise to compare with and is called unsure when it differs.

Prints a line a case; exit code 1 when any case is slower, 2 for files that cannot be compared.
"""
import argparse
import json
import sys
from pathlib import Path


def fail(message):
    print(f"bench/compare.py: {message}", file=sys.stderr)
    sys.exit(2)


def times_of(path):
    """Case -> least times in ms, one of each repetition."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    times = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            fail(f"{path}:{number}: expected a JSON object a line")
        if "case" not in row or "ms_min" not in row or row.get("contestant", "fovea") != "fovea":
            continue
        times.setdefault(row["case"], []).append(float(row["ms_min"]))
    if not times:
        fail(f"{path}: no row with case and ms_min")
    return times


def noise_of(times):
    """In per cent; None for a single measurement."""
    return 100 * (max(times) / min(times) - 1) if len(times) > 1 else None


def verdict(base, new, tolerance):
    """(change of the time in per cent, noise in per cent or None, word)."""
    change = 100 * (min(new) / min(base) - 1)
    noises = [noise_of(base), noise_of(new)]
    noise = None if None in noises else max(noises)
    if abs(change) <= max(tolerance, noise or 0):
        return change, noise, "same"
    if noise is None:
        return change, noise, "unsure"
    return change, noise, "slower" if change > 0 else "faster"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("new")
    parser.add_argument("--tolerance", type=float, default=3, help="per cent that does not count [3]")
    args = parser.parse_args()
    base, new = times_of(args.base), times_of(args.new)
    common = [case for case in base if case in new]
    if not common:
        fail(f"{args.base} and {args.new} have no case in common")
    for case in sorted(set(base) ^ set(new)):
        print(f"{case}: only in {args.base if case in base else args.new}")
    slower = 0
    for case in common:
        change, noise, word = verdict(base[case], new[case], args.tolerance)
        shown = "?" if noise is None else f"{noise:.1f} %"
        print(f"{case}: {min(base[case]):.3f} -> {min(new[case]):.3f} ms, {change:+.1f} %, noise {shown}: {word}")
        slower += word == "slower"
    sys.exit(1 if slower else 0)


if __name__ == "__main__":
    main()
