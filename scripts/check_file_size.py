#!/usr/bin/env python3
"""Checks that no source file is longer than 550 lines. Usage: check_file_size.py [ROOT]."""

import pathlib
import sys

LIMIT = 550
FOLDERS = ("fovea", "tools", "tests", "python", "bench", "scripts", "cmake", "examples", ".ci")
SUFFIXES = {".h", ".cpp", ".cu", ".py", ".cmake", ".sh", ".txt", ""}


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    long = []
    for folder in FOLDERS:
        for file in sorted((root / folder).rglob("*")):
            if file.suffix not in SUFFIXES or not file.is_file() or "corpus" in file.parts:
                continue
            try:
                lines = file.read_text(encoding="utf-8").count("\n")
            except UnicodeDecodeError:
                continue
            if lines > LIMIT:
                long.append(f"{file.relative_to(root)}: {lines} lines; split it (at most {LIMIT})")
    print("\n".join(long) or f"file sizes: none above {LIMIT} lines")
    return 1 if long else 0


if __name__ == "__main__":
    sys.exit(main())
