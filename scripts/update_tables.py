#!/usr/bin/env python3
"""Makes the tables of README.md and docs/performance.md from bench/results/*.jsonl.

    scripts/update_tables.py            rewrites both between their <!-- results --> marks
    scripts/update_tables.py --check    fails when they are not what the results say

The plots of docs/performance.md are scripts/plot_performance.py's.
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


def case_rows(name):
    """(machine's line, case -> contestant -> row) of a file that compares contestants on cases."""
    rows, cases = rows_of(name), {}
    for row in rows[1:]:
        cases.setdefault(row["case"], {})[row["contestant"]] = row
    return rows[0] if rows else None, cases


def attention(wanted=lambda case: True):
    """bench/attention.py: the machine's line, then a line for each case and contestant."""
    machine, cases = case_rows("attention.jsonl")
    if not machine:
        return []
    peaks, body = machine["peak_gflops"], []
    for case, by_name in cases.items():
        if not wanted(case):
            continue
        ours, theirs = by_name["fovea"], by_name["torch.sdpa"]
        flex = by_name.get("torch.flex")
        peak = peaks[re.search("_(f32|bf16|f16)_", case)[1]]
        body.append([f"`{case}`", ours["gflops"], f"{100 * ours['gflops'] / peak:.0f} %",
                     theirs["gflops"], flex["gflops"] if flex else "", f"{ours['ratio']}x"])
    return [f"**Attention**, GFLOP/s beside PyTorch {machine['torch']} in one process ({machine['machine']}, "
            f"{machine['threads']} thread(s); measured peaks: f32 {peaks['f32']:.0f} ({machine['isa']['f32']}), bf16 "
            f"{peaks['bf16']:.0f} ({machine['isa']['bf16']}); "
            f"`bench/attention.py`, {machine['date']}):", "",
            *table(["case", "fovea", "of its peak", "SDPA", "FlexAttention", "against SDPA"], body), ""]


def runtimes():
    """bench/runtimes.py: forward in other runtimes."""
    machine, cases = case_rows("runtimes.jsonl")
    if not machine:
        return []
    names = ["torch.sdpa", "openvino", "onnxruntime.mha", "onnxruntime.attention", "onnxruntime.gqa", "ggml"]
    body = []
    for case, by_name in cases.items():
        speeds = {name: by_name[name]["gflops"] for name in names if name in by_name}
        best = max(speeds.values())
        body.append([f"`{case}`", by_name["fovea"]["gflops"],
                     *(f"**{speeds[n]}**" if speeds.get(n) == best else speeds.get(n, "") for n in names),
                     f"{by_name['fovea']['gflops'] / best:.2f}x"])
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return [f"GFLOP/s, forward, {machine['threads']} threads of {machine['machine']}, each runtime in a process of its own, "
            f"{machine['rounds']} rounds in turn ({versions}; `bench/runtimes.py`, {machine['date']}):", "",
            *table(["case", "fovea", "PyTorch SDPA", "OpenVINO", "ORT MultiHeadAttention", "ORT Attention",
                    "ORT GroupQueryAttention", "ggml", "against the best"], body), ""]


def cases_alone(name, text):
    """`fovea bench attention --json`: cases without a peer."""
    rows = [row for row in rows_of(name) if "error" not in row]
    if not rows:
        return []
    body = [[f"`{row['case']}`", f"{row['ms_min']:.2f}", f"{row['gflops_best']:.0f}",
             f"{100 * row['gflops_best'] / row['peak_gflops']:.0f} %", f"{row['bytes_peak'] / 2**20:,.0f}"] for row in rows]
    return [f"{text} ({rows[0]['machine']}, {rows[0]['threads']} threads; `fovea bench attention --file "
            f"bench/cases/{name.replace('jsonl', 'txt')} --json`):", "",
            *table(["case", "ms", "GFLOP/s", "of the peak", "peak MiB, inputs and outputs included"], body), ""]


def decode():
    """bench/decode.py: share of the read bandwidth."""
    rows = [row for row in rows_of("decode.jsonl") if row["threads"] > 1]
    if not rows:
        return []
    shares = {}
    for row in rows:
        shares.setdefault((row["cache"], row["dim"]), {})[row["rows"]] = f"{row['gbytes_s']} ({row['percent']:.0f} %)"
    counts = sorted({row["rows"] for row in rows})
    return [f"GB/s of one token against {rows[0]['keys']:,} keys a head, and its share of what `torch.sum` reads in the same "
            f"run, {rows[0]['threads']} threads, by query heads a key head (`bench/decode.py`, {rows[0]['date']}):", "",
            *table(["cache", "D", *(f"{n} query row{'s' * (n > 1)}" for n in counts)],
                   [[*key, *(by_rows[n] for n in counts)] for key, by_rows in shares.items()]), ""]


def idiap():
    """bench/idiap.py: the machine's line, then a line for each contestant."""
    rows = rows_of("idiap.jsonl")
    if not rows:
        return []
    pairs = {}
    for row in rows[1:]:
        pairs.setdefault((row["work"], row["step"]), {})[row["contestant"]] = row
    body = [[*key, pair["fovea"]["ms_min"], pair["idiap"]["ms_min"], f"{pair['fovea']['ratio']}x"]
            for key, pair in pairs.items()]
    return [f"ms, 12 heads of 64, 4,096 tokens, f32, {rows[0]['threads']} threads of {rows[0]['machine']}, in turns "
            f"(`bench/idiap.py`, {rows[0]['date']}):", "",
            *table(["work", "step", "fovea", "idiap fast-transformers", "ratio"], body), ""]


def accuracy():
    """bench/accuracy.py: largest and mean error against double precision."""
    rows = rows_of("accuracy.jsonl")
    if not rows:
        return []
    contestants = list(dict.fromkeys(row["contestant"] for row in rows[1:]))
    errors = {}
    for row in rows[1:]:
        errors.setdefault((row["dtype"], row["pattern"], row["tensor"]), {})[row["contestant"]] = (
            f"{row['max_error']:.1e} ({row['mean_error']:.1e})")
    body = [[*key, *(by_name.get(name, "") for name in contestants)] for key, by_name in errors.items()]
    return [f"Largest (mean) error of {rows[0]['shape']}, relative to the largest element of the truth in double "
            f"precision (`bench/accuracy.py`, {rows[0]['date']}):", "",
            *table(["storage", "pattern", "tensor", *contestants], body), ""]


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


def readme():
    shown = set((ROOT / "bench/cases/peers.txt").read_text().split())
    return attention(shown.__contains__) + models() + training()


def performance():
    """The sections that have results."""
    sections = {
        "Beside PyTorch": attention(),
        "Beside other runtimes": runtimes(),
        "Beside idiap's fast-transformers": idiap(),
        "Decoding": decode(),
        "How the cost grows": cases_alone(
            "scaling.jsonl", "Lengths, heads, patterns with as many pairs, packed documents"),
        "What modifications of scores cost": cases_alone("scores.jsonl", "One thing at a time"),
        "Whole models": models(),
        "Accuracy": accuracy(),
    }
    return [line for title, lines in sections.items() if lines for line in (f"## {title}", "", *lines)]


def main():
    for name, lines in (("README.md", readme()), ("docs/performance.md", performance())):
        path = ROOT / name
        text = path.read_text()
        begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
        made = text[:begin] + "\n" + "\n".join(lines) + text[end:]
        if "--check" not in sys.argv[1:]:
            path.write_text(made)
        elif made != text:
            sys.exit(f"{name}: the tables are not those of bench/results; run scripts/update_tables.py")


if __name__ == "__main__":
    main()
