#!/usr/bin/env python3
"""Checks how the cost of attention follows its work: the rules of bench/cases/scaling.txt.

    bench/scaling.py [--cases bench/cases/scaling.txt] [--program build/release/bin/fovea] [--threads N]

Every case runs once (`fovea bench attention --json`, the least of its repetitions counts); a rule
compares cases of this one run. Prints a line a rule: ok or MISSED, measured, asked, case. Cases of
one rule run one after another, so that a machine whose speed drifts is fair to both. Exit code 1
when a rule is missed.
"""
import argparse
import datetime
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULE = re.compile(r"(time <=|rate >=) ([0-9.]+) (\S+(?: \+ \S+)*)$")


def read_rules(path):
    """(case, kind, factor, other cases) of each line that has a rule."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        case, _, text = line.partition("#")
        if not case.strip():
            continue
        rule = RULE.match(text.strip())
        if not rule:
            sys.exit(f"{path}:{number}: expected '# time <= F ID + ID …' or '# rate >= F ID'")
        yield case.strip(), rule[1], float(rule[2]), rule[3].split(" + ")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=Path, default=ROOT / "bench/cases/scaling.txt")
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/fovea"))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rows", type=Path, help="append a JSON line for each rule here")
    args = parser.parse_args()
    missed = 0
    for case, kind, factor, others in read_rules(args.cases):
        command = [args.program, "bench", "attention", "--json"]
        command += [f"--case={c}" for c in (case, *others)]
        if args.threads:
            command += ["--threads", str(args.threads)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows = [json.loads(line) for line in out.splitlines()]
        errors = [row["error"] for row in rows if "error" in row]
        if errors:
            sys.exit(f"{case}: {errors[0]}")
        if kind == "time <=":
            ratio = rows[0]["ms_min"] / sum(row["ms_min"] for row in rows[1:])
            ok = ratio <= factor
        else:
            ratio = rows[0]["gflops_best"] / rows[1]["gflops_best"]
            ok = ratio >= factor
        missed += not ok
        if args.rows:
            row = dict(case=case, rule=kind, asked=factor, measured=round(ratio, 3), beside=others, ms_min=rows[0]["ms_min"],
                       gflops=round(rows[0]["gflops_best"], 1), peak_gflops=round(rows[0]["peak_gflops"], 1),
                       machine=rows[0]["machine"], threads=rows[0]["threads"], date=datetime.date.today().isoformat())
            with args.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        print(f"{'ok    ' if ok else 'MISSED'} {ratio:6.3f} {kind} {factor:.2f}  {case}", flush=True)
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
