#!/usr/bin/env python3
"""Checks that an engine's object file exports its table and nothing else.

An engine (fovea/kernels/isa/*.cpp) is compiled for instructions that not every machine has. An inline
function that such a file exported, one of the standard library's say, could be chosen by the linker for
the whole program, which would then stop with an illegal instruction elsewhere.

Usage: check_isa_objects.py NM OBJECT...  (objects that are not in an isa folder are passed over)
"""

import pathlib
import re
import subprocess
import sys

SYMBOL = re.compile(r"(.+) ([A-Za-z])(?: [0-9a-f]*)*")
ALLOWED = "fovea::kernels::k"  # the tables: fovea::kernels::kAvx2Engine


def exported(nm, file):
    text = subprocess.run(
        [nm, "--demangle", "--defined-only", "--extern-only", "--format=posix", file],
        check=True, capture_output=True, text=True,
    ).stdout
    for line in text.splitlines():
        yield SYMBOL.fullmatch(line).groups()


def main():
    nm, *files = sys.argv[1:]
    files = [file for file in files if pathlib.PurePath(file).parent.name == "isa"]
    problems = []
    for file in files:
        tables = 0
        for name, kind in exported(nm, file):
            if name.startswith(ALLOWED) and name.endswith("Engine") and "(" not in name:
                tables += 1
            else:
                problems.append(f"{file}: exports {name} ({kind}); only its engine's table may be seen outside")
        if not tables:
            problems.append(f"{file}: exports no engine's table")
    if not files:
        problems.append("no object of an isa folder was given")
    print("\n".join(problems) or f"engines: {len(files)} files export their table and nothing else")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
