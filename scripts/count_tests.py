#!/usr/bin/env python3
"""Prints 'N passed, N failed, N skipped' for the JUnit files of one run in a folder.

ctest.xml counts programs. Where a program is a GoogleTest one, gtest/NAME.xml has its tests, which
are counted in its place; a program that fails counts as one failure at least. pytest.xml is counted as it is.
Exits 1 when a test failed, when there was none, or when a file is damaged.
"""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def outcome(case):
    if case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail":
        return "failed"
    if case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
        return "skipped"
    return "passed"


def count(file, counts):
    for case in ElementTree.parse(file).iter("testcase"):
        counts[outcome(case)] += 1


def count_program(name, result, gtest_file, counts):
    own = {"passed": 0, "failed": 0, "skipped": 0}
    if gtest_file.exists():
        try:
            count(gtest_file, own)
        except ElementTree.ParseError:
            result = "failed"  # it died while writing
    if not sum(own.values()):
        own[result] = 1
    elif result == "failed" and not own["failed"]:
        own["failed"] = 1
    if own["failed"]:
        print(f"failed: {name}", file=sys.stderr)
    for key, value in own.items():
        counts[key] += value


def main(folder):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for case in ElementTree.parse(folder / "ctest.xml").iter("testcase"):
        name = case.get("name")
        count_program(name, outcome(case), folder / "gtest" / f"{name}.xml", counts)
    if (folder / "pytest.xml").exists():
        count(folder / "pytest.xml", counts)
    print(", ".join(f"{value} {key}" for key, value in counts.items() if value or key != "skipped"))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
