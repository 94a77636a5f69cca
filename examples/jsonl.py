"""What the `prepare` scripts share: reading gzip or plain text, writing JSONL of `text` and `label`."""
import gzip
import json
import sys
from pathlib import Path


def lines(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.rstrip("\n")


def stem(path):
    """train.tsv.gz -> train"""
    return path.name.split(".")[0]


def folders(usage):
    if len(sys.argv) != 3:
        sys.exit(usage)
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    if not source.is_dir():
        sys.exit(f"{source}: no such folder")
    out.mkdir(parents=True, exist_ok=True)
    return source, out


def write(path, rows):
    """Writes rows of (id, text, label); the file appears only when it is complete."""
    part = path.with_suffix(".part")
    count = 0
    with open(part, "w", encoding="utf-8", newline="\n") as file:
        for row_id, text, label in rows:
            record = {"id": row_id, "text": text, "label": label}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    part.rename(path)
    print(f"{path}: {count} rows", file=sys.stderr)
