#!/usr/bin/env python3
"""Checks that every per-ISA object exports its engine table and nothing else.

An inline function that an ISA file emits is a weak symbol compiled for that instruction set; the
linker may hand it to the whole program, which then dies on an older machine. So nothing but the
table may be visible: weak symbols count. A function whose section is a discarded group is no less
dangerous, hence no symbol type is excused.

    check_isa_objects.py OBJECT...      (of fovea/kernels/isa; others are ignored)
"""
import re
import subprocess
import sys

ISA_OBJECT = re.compile(r"/isa/\w+\.cpp\.o$")
TABLE = re.compile(r"^fovea::kernels::k\w+Engine$")


def exported(path):
    """Names of the global and weak symbols that the object defines."""
    out = subprocess.run(["nm", "--demangle", "--extern-only", "--defined-only", path],
                         check=True, capture_output=True, text=True).stdout
    return [line.split(maxsplit=2)[2] for line in out.splitlines() if line.strip()]


def main():
    objects = [path for path in sys.argv[1:] if ISA_OBJECT.search(path)]
    if not objects:
        sys.exit("check_isa_objects: expected objects of fovea/kernels/isa, got none")
    failed = False
    for path in objects:
        symbols = exported(path)
        tables = [name for name in symbols if TABLE.match(name)]
        others = [name for name in symbols if not TABLE.match(name)]
        if len(tables) != 1:
            print(f"{path}: expected one engine table, got {len(tables)}")
            failed = True
        for name in others:
            print(f"{path}: exports {name}")
            failed = True
    if failed:
        sys.exit(1)
    print(f"{len(objects)} objects export their table only")


if __name__ == "__main__":
    main()
