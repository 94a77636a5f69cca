#!/usr/bin/env python3
"""Writes unicode_tables.inc: the character classes and lower-case mappings of the `tokenizers` package.

The package mixes several Unicode versions (its regular expressions, the Rust library and two crates
each have their own), and ICU on a user's machine has yet another. Ids agree on every code point only
if the classes do, so they are asked from the package itself, once, and stored as ranges.

Usage: .venv/bin/python fovea/text/generate_unicode_tables.py > fovea/text/unicode_tables.inc
"""

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
ALL = "".join(map(chr, CODE_POINTS))


def removed_by(pre_tokenizer):
    """Code points that the pre-tokenizer drops from a text of all code points."""
    kept = set()
    for piece, _ in pre_tokenizer.pre_tokenize_str(ALL):
        kept.update(piece)
    return {c for c in CODE_POINTS if chr(c) not in kept}


def matched_by(pattern):
    return removed_by(pre_tokenizers.Split(Regex(pattern), "removed"))


def numeric():
    pieces = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(
        "".join("a" + chr(c) for c in CODE_POINTS))
    return {ord(piece) for piece, _ in pieces if len(piece) == 1 and piece != "a"}


def joined_to_letters():
    whitespace = pre_tokenizers.Whitespace()
    return {c for c in CODE_POINTS if len(whitespace.pre_tokenize_str("a" + chr(c) + "a")) == 1}


def accents():
    strip = normalizers.StripAccents()
    return {c for c in CODE_POINTS if strip.normalize_str("a" + chr(c)) == "a"}


# The order is that of the enumerators of CharClass in unicode.h.
CLASSES = [
    matched_by(r"\p{L}"),
    matched_by(r"\p{N}"),
    matched_by(r"\s"),
    joined_to_letters(),
    matched_by(r"\w"),
    removed_by(pre_tokenizers.Punctuation("removed")),
    numeric(),
    accents(),
]


def class_runs():
    runs, last = [], -1
    for c in range(0x110000):
        flags = sum(1 << bit for bit, members in enumerate(CLASSES) if c in members)
        if flags != last:
            runs.append((c, flags))
            last = flags
    return runs


def lower_runs():
    """(first, last, step, delta): every step-th code point of the range maps to itself + delta."""
    lowercase = normalizers.Lowercase()
    pairs, longer = [], []
    for c in CODE_POINTS:
        lower = lowercase.normalize_str(chr(c))
        if len(lower) != 1:
            longer.append(c)
        elif lower != chr(c):
            pairs.append((c, ord(lower) - c))
    assert longer == [0x130], longer  # U+0130 gives "i" and U+0307; unicode.cpp has it
    runs = []
    for c, delta in pairs:
        if runs and runs[-1][3] == delta:
            first, last, step, _ = runs[-1]
            if c - last in (1, 2) and (first == last or c - last == step):
                runs[-1] = (first, c, c - last, delta)
                continue
        runs.append((c, c, 1, delta))
    return runs


def print_table(name, kind, rows):
    print(f"constexpr {kind} {name}[] = {{")
    line = "   "
    for row in rows:
        if len(line) + len(row) + 2 > 100:
            print(line)
            line = "   "
        line += f" {row},"
    print(line + "\n};")


def main():
    print(f"// Made by generate_unicode_tables.py from tokenizers {tokenizers.__version__}; not edited.")
    print("// clang-format off")
    print("// First code point of a run << 8 | its classes (bits of CharClass).")
    print_table("kClassRuns", "uint32_t", [f"0x{c << 8 | f:x}" for c, f in class_runs()])
    print("// {first, last, step, delta}: upper case and its distance to lower case.")
    print_table("kLowerRuns", "LowerRun",
                [f"{{0x{a:x},0x{b:x},{s},{d}}}" for a, b, s, d in lower_runs()])
    print("// clang-format on")


main()
