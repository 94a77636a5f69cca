#!/usr/bin/env python3
"""Makes the README's results tables from bench/results/*.jsonl.

    scripts/update_tables.py            rewrites README.md between its <!-- results --> marks
    scripts/update_tables.py --check    fails when the README is not what the results say
"""
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench/results"
BEGIN, END = "<!-- results -->", "<!-- /results -->"


def rows_of(name):
    path = RESULTS / name
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]


def attention():
    """bench/attention.py: the machine's line, then a line for each case and contestant."""
    rows = rows_of("attention.jsonl")
    if not rows:
        return []
    machine, cases = rows[0], {}
    for row in rows[1:]:
        cases.setdefault(row["case"], {})[row["contestant"]] = row
    peaks, body = machine["peak_gflops"], []
    for case, by_name in cases.items():
        ours, theirs = by_name["fovea"], by_name["torch.sdpa"]
        flex = by_name.get("torch.flex")
        peak = peaks[re.search("_(f32|bf16)_", case)[1]]
        body.append([f"`{case}`", ours["gflops"], f"{100 * ours['gflops'] / peak:.0f} %",
                     theirs["gflops"], flex["gflops"] if flex else "", f"{ours['ratio']}x"])
    return [f"**Attention**, GFLOP/s beside PyTorch {machine['torch']} in one process ({machine['machine']}, "
            f"{machine['threads']} thread(s); measured peaks: f32 {peaks['f32']:.0f} ({machine['isa']['f32']}), bf16 "
            f"{peaks['bf16']:.0f} ({machine['isa']['bf16']}); "
            f"`bench/attention.py`, {machine['date']}):", "",
            *table(["case", "fovea", "of its peak", "SDPA", "FlexAttention", "against SDPA"], body), ""]


def models():
    """bench/model.py: the machine's line, then a line for each contestant."""
    rows = rows_of("model.jsonl")
    if not rows:
        return []
    machine, pairs = rows[0], {}
    for row in rows[1:]:
        key = (row["model"], row["step"], row["length"], row["precision"])
        pairs.setdefault(key, {})[row["contestant"]] = row
    body = [[*key, *(f"{pair[name]['tokens_per_second']:,}" for name in ("fovea", "transformers")),
             f"{pair['fovea']['ratio']}x"] for key, pair in pairs.items()]
    return [f"**Whole models**, tokens/s beside Hugging Face Transformers {machine['transformers']} on PyTorch "
            f"{machine['torch']} in one run ({machine['machine']}, {machine['threads']} thread(s), {machine['isa']}; "
            f"`bench/model.py`, {machine['date']}):", "",
            *table(["model", "step", "tokens", "precision", "fovea", "Transformers", "ratio"], body), ""]


def training():
    """bench/train_example.py: a line for each run, and the naive Bayes baseline."""
    body = []
    for path in sorted(RESULTS.glob("*.jsonl")):
        for row in rows_of(path.name):
            if row.get("variant") == "naive_bayes":
                body.append([row["set"], "naive Bayes", "", f"{100 * row['accuracy']:.1f}",
                             f"{100 * row['macro_f1']:.1f}", "", "", ""])
            elif "variant" in row:
                body.append([row["set"], "`" + row["attention"].replace("|", "\\|") + "`", row["seed"],
                             f"{100 * row['accuracy']:.1f}", f"{100 * row['macro_f1']:.1f}",
                             f"{row['minutes']:.1f}", f"{row['tokens_per_second']:,}",
                             f"{row['peak_mib']:,}"])
    if not body:
        return []
    body.sort(key=lambda cells: cells[0])
    return ["**Training from scratch**, scores in per cent on the set's test file (`examples/`, "
            "`bench/train_example.py`; each line of `bench/results` names machine, threads and command):", "",
            *table(["set", "attention", "seed", "accuracy", "macro F1", "minutes", "tokens/s", "peak MiB"],
                   body), ""]


def main():
    readme = ROOT / "README.md"
    text = readme.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    made = text[:begin] + "\n" + "\n".join(attention() + models() + training()) + text[end:]
    if "--check" in sys.argv[1:]:
        if made != text:
            sys.exit("README.md: the tables are not those of bench/results; run scripts/update_tables.py")
    else:
        readme.write_text(made)


if __name__ == "__main__":
    main()
