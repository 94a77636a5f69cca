#!/usr/bin/env python3
"""Makes the tables of README.md, docs/performance.md and docs/mechanisms.md from bench/results/*.jsonl.

    scripts/update_tables.py            rewrites them between their <!-- results --> marks
    scripts/update_tables.py --check    fails when they are not what the results say

The plots are scripts/plot_performance.py's.
"""
import json
import re
import statistics
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


def attention(wanted=lambda case: True, name="attention.jsonl"):
    """bench/attention.py: the machine's line, then a line for each case and contestant."""
    machine, cases = case_rows(name)
    if not machine:
        return []
    peaks, body = machine["peak_gflops"], []
    for case, by_name in cases.items():
        if not wanted(case):
            continue
        ours, theirs = by_name["fovea"], by_name["torch.sdpa"]
        third = by_name.get("torch.flex") or by_name.get("torch.unfused")
        peak = peaks[re.search("_(f32|bf16|f16)_", case)[1]]
        body.append([f"`{case}`", ours["gflops"], f"{100 * ours['gflops'] / peak:.0f} %",
                     theirs["gflops"], third["gflops"] if third else "", f"{ours['ratio']}x"])
    return [f"**Attention**, GFLOP/s beside PyTorch {machine['torch']} in one process ({machine['machine']}, "
            f"{machine['threads']} thread(s); measured peaks: f32 {peaks['f32']:.0f} ({machine['isa']['f32']}), bf16 "
            f"{peaks['bf16']:.0f} ({machine['isa']['bf16']}); "
            f"`bench/attention.py`, {machine['date']}):", "",
            *table(["case", "fovea", "of its peak", "SDPA", "unfused" if name == "short.jsonl" else "FlexAttention",
                    "against SDPA"], body), ""]


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


def scaling():
    """bench/scaling.py: a rule a line."""
    rows = rows_of("scaling.jsonl")
    if not rows:
        return []
    body = [[f"`{row['case']}`", row["gflops"], f"{100 * row['gflops'] / row['peak_gflops']:.0f} %",
             f"`{row['beside'][0]}`" if len(row["beside"]) == 1 else "its documents one by one",
             f"{row['measured']:.2f}{'' if keeps(row) else ' (missed)'}", f"{row['rule']} {row['asked']}"] for row in rows]
    return [f"Time, or GFLOP/s, of a case over those of others in one run, and what they should be at most, or least "
            f"({rows[0]['machine']}, {rows[0]['threads']} threads; `bench/scaling.py`, {rows[0]['date']}):", "",
            *table(["case", "GFLOP/s", "of the peak", "beside", "ratio", "asked"], body), ""]


def keeps(row):
    return row["measured"] <= row["asked"] if row["rule"] == "time <=" else row["measured"] >= row["asked"]


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
    return [f"ms, 12 heads of 64, 4,096 tokens, f32 but where said, {rows[0]['threads']} threads of {rows[0]['machine']}, in turns "
            f"(`bench/idiap.py`, {rows[0]['date']}):", "",
            *table(["work", "step", "fovea", "idiap fast-transformers", "ratio"], body), ""]


def linear():
    """bench/linear.py: peers of gated delta attention, and time by length."""
    rows = rows_of("linear.jsonl")
    if not rows:
        return []
    machine, *rows = rows
    peers = [row for row in rows if "what" in row]
    names = list(dict.fromkeys(row["what"] for row in peers))
    ms = {(row["what"], row["direction"]): row["ms_min"] for row in peers}
    both = {name: ms[name, "forward"] + ms[name, "backward"] for name in names}
    body = [[name, ms[name, "forward"], ms[name, "backward"], f"{both[name] / both['fovea']:.1f}x"] for name in names]
    grown, lengths = {}, sorted({row["length"] for row in rows if "dtype" in row})
    for row in rows:
        if "dtype" in row:
            grown.setdefault((row["mechanism"], row["dtype"], row["direction"]), {})[row["length"]] = row
    by_length = [[*key, *(f"{at[n]['ns_per_token_and_head']} ({at[n]['of_the_shortest']:.2f})" for n in lengths)]
                 for key, at in grown.items()]
    return [f"Gated delta attention, f32, {peers[0]['heads']} heads of {peers[0]['head_dim']}, {peers[0]['length']:,} tokens, ms, and fovea's speed "
            f"in both directions against each ({machine['machine']}, {machine['threads']} threads, PyTorch {machine['torch']}; `bench/linear.py`, "
            f"{machine['date']}):", "", *table(["what", "forward", "backward", "fovea is faster"], body), "",
            "By length, 2 heads of 64, causal, results in pages of 2 MB (docs/python.md): ns a token and head, and that over the shortest's:", "",
            *table(["mechanism", "type", "direction", *(f"{n:,}" for n in lengths)], by_length), ""]


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


def per_mechanism(name, key):
    """Rows of bench/mechanisms.py by their `key`, then by mechanism."""
    found = {}
    for row in rows_of(name):
        found.setdefault(row[key], {}).setdefault(row["mechanism"], []).append(row)
    return found


def accuracy_at(row, speed, seconds):
    """Validation accuracy of a run after so many seconds, between evaluations on a straight line."""
    per_step = row["tokens"] / row["steps"] / speed["train_tokens_per_second"]
    points = [(step * per_step, accuracy) for step, accuracy in row["history"]]
    before = [p for p in points if p[0] <= seconds]
    after = [p for p in points if p[0] > seconds]
    if not before or not after:
        return (before[-1:] or after)[0][1]
    (t0, a0), (t1, a1) = before[-1], after[0]
    return a0 + (a1 - a0) * (seconds - t0) / (t1 - t0)


def mechanisms():
    """bench/mechanisms.py train and speed: a table a task."""
    lines, speeds = [], per_mechanism("mechanism_speed.jsonl", "task")
    for task, runs in per_mechanism("mechanisms.jsonl", "task").items():
        speed = {name: rows[0] for name, rows in speeds.get(task, {}).items()}
        runs = {name: rows for name, rows in runs.items() if name in speed}
        if not runs:
            continue
        fastest = min(rows[0]["tokens"] / speed[name]["train_tokens_per_second"] for name, rows in runs.items())
        body = []
        for name, rows in sorted(runs.items(), key=lambda item: -statistics.mean(row["accuracy"] for row in item[1])):
            scores = [100 * row["accuracy"] for row in rows]
            equal = statistics.mean(100 * accuracy_at(row, speed[name], fastest) for row in rows)
            extremes = f" ({min(scores):.1f} to {max(scores):.1f})" if len(scores) > 1 else ""
            attention = re.search(r"--attention (\S+)", rows[0]["command"])[1].replace("|", "\\|")
            body.append([f"`{attention}`", f"{rows[0]['parameters']:,}", f"{statistics.mean(scores):.1f}{extremes}",
                         f"{equal:.1f}", f"{speed[name]['train_tokens_per_second']:,}",
                         f"{speed[name]['evaluation_tokens_per_second']:,}", f"{speed[name]['peak_mib']:,}"])
        row = next(iter(runs.values()))[0]
        seeds = len(next(iter(runs.values())))
        spread = f"{seeds} seeds (mean, least to most)" if seeds > 1 else "one seed"
        lines += [f"**{task}**: {row['steps']} steps, {row['tokens']:,} tokens, {spread}, {row['precision']}; at equal time: on the "
                  f"validation examples after the {fastest:.0f} s that the fastest takes for all steps:", "",
                  *table(["attention", "parameters", "test accuracy", "at equal time", "training tokens/s", "evaluation tokens/s",
                          "training peak MiB"], body), ""]
    return lines


def mechanism_lengths():
    """bench/mechanisms.py lengths: seconds and memory of a training step."""
    found = per_mechanism("mechanism_lengths.jsonl", "step")
    lines = []
    for step, by_name in found.items():
        lengths = sorted({row["length"] for rows in by_name.values() for row in rows})
        body = []
        for name, rows in by_name.items():
            at = {row["length"]: row for row in rows}
            body.append([f"`{name}`".replace("|", "\\|"), *(f"{at[n]['ms_min'] / 1e3:.3g} s, {at[n]['bytes_peak'] / 2**20:,.0f}"
                                                           if n in at else "" for n in lengths)])
        lines += [f"**{'A training step' if step == 'train' else 'Prediction'}** of one document: seconds, peak MiB of the process, "
                  "by its tokens:", "", *table(["mechanism", *(f"{n:,}" for n in lengths)], body), ""]
    return lines


def readme():
    shown = set((ROOT / "bench/cases/peers.txt").read_text().split())
    return attention(shown.__contains__) + models() + training()


def performance():
    """The sections that have results."""
    sections = {
        "Beside PyTorch": attention(),
        "Short lengths": attention(name="short.jsonl"),
        "Beside other runtimes": runtimes(),
        "Beside idiap's fast-transformers": idiap(),
        "Linear attention": linear(),
        "Decoding": decode(),
        "How the cost grows": scaling(),
        "What modifications of scores cost": cases_alone("scores.jsonl", "One thing at a time"),
        "Whole models": models(),
        "Accuracy": accuracy(),
    }
    return [line for title, lines in sections.items() if lines for line in (f"## {title}", "", *lines)]


def main():
    for name, lines in (("README.md", readme()), ("docs/performance.md", performance()),
                        ("docs/mechanisms.md", mechanisms() + mechanism_lengths())):
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
