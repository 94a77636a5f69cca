#!/usr/bin/env python3
"""Draws the plots of docs/performance.md and docs/mechanisms.md from bench/results (needs matplotlib).

    scripts/plot_performance.py         writes docs/images/{length,roofline,mechanisms,mechanism_lengths}.svg
"""
import re
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "fovea"  # the same file from the same results
import matplotlib.pyplot as plt  # noqa: E402

from update_tables import ROOT, case_rows, per_mechanism, rows_of  # noqa: E402

IMAGES = ROOT / "docs/images"
CASE = re.compile(r"b(\d+)_h(\d+)(?:_kv(\d+))?_q(\d+)_k(\d+)_d(\d+)(?:_v\d+)?_(f32|bf16|f16)_([a-z0-9+.-]+)_(fwd|bwd)")
NAMES = {"fovea": "fovea", "torch.sdpa": "PyTorch SDPA", "torch.flex": "PyTorch FlexAttention"}
SIZES = {"f32": 4, "bf16": 2, "f16": 2}


def save(figure, name):
    figure.savefig(IMAGES / name, metadata={"Date": None}, bbox_inches="tight")


def lengths():
    """Milliseconds against length, forward, f32, 4 heads of 64."""
    machine, cases = case_rows("lengths.jsonl")
    if not machine:
        return
    lines = {}
    for case, by_name in cases.items():
        match = CASE.match(case)
        for name, row in by_name.items():
            lines.setdefault((match[8], name), []).append((int(match[4]), row["ms_min"]))
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for (pattern, name), points in sorted(lines.items()):
        style = "-" if name == "fovea" else "--" if name == "torch.sdpa" else ":"
        axes.loglog(*zip(*sorted(points)), style, marker="o", markersize=3, color="C0" if pattern == "full" else "C1",
                    label=f"{pattern}, {NAMES[name]}", base=2)
    axes.set(xlabel="length, tokens", ylabel="ms", title=f"Forward, f32, 4 heads of 64, {machine['machine']}, "
             f"{machine['threads']} threads")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    save(figure, "length.svg")


def roofline():
    """GFLOP/s against FLOP per byte of q, k, v and o, with the peaks of the same run."""
    machine, cases = case_rows("attention.jsonl")
    if not machine:
        return
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for dtype, color in (("f32", "C0"), ("bf16", "C1")):
        points = {"fovea": [], "torch.sdpa": []}
        for case, by_name in cases.items():
            match = CASE.match(case)
            if match[7] != dtype or match[9] != "fwd":
                continue
            b, h, q, k, d = (int(match[i]) for i in (1, 2, 4, 5, 6))
            bytes_moved = SIZES[dtype] * b * h * d * 2 * (q + k)
            for name, out in points.items():
                row = by_name[name]
                out.append((row["gflops"] * row["ms_min"] * 1e6 / bytes_moved, row["gflops"]))
        peak = machine["peak_gflops"][dtype]
        axes.axhline(peak, color=color, linewidth=0.8)
        axes.annotate(f"peak {dtype}", (0.01, peak), xycoords=("axes fraction", "data"), va="bottom", fontsize=8, color=color)
        for name, marker in (("fovea", "o"), ("torch.sdpa", "x")):
            if points[name]:
                axes.loglog(*zip(*points[name]), marker, color=color, label=f"{dtype}, {NAMES[name]}")
    read = [row["read_gbytes_s"] for row in rows_of("decode.jsonl") if row["threads"] == machine["threads"]]
    if read:
        x = [0.25, 16]
        axes.loglog(x, [max(read) * i for i in x], color="0.5", linewidth=0.8, label="memory, read")
    axes.set(xlabel="FLOP per byte of q, k, v and o", ylabel="GFLOP/s", title="Forward: how near to the machine's peaks")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    save(figure, "roofline.svg")


def mechanisms():
    """Test accuracy against tokens/s of training, a panel a task."""
    runs, speeds = (per_mechanism(name, "task") for name in ("mechanisms.jsonl", "mechanism_speed.jsonl"))
    tasks = [task for task in runs if task in speeds]
    if not tasks:
        return
    names = list(dict.fromkeys(name for task in tasks for name in runs[task]))
    figure, panels = plt.subplots(1, len(tasks), figsize=(5 * len(tasks), 4), squeeze=False)
    for axes, task in zip(panels[0], tasks):
        for name, rows in runs[task].items():
            if name in speeds[task]:
                i = names.index(name)
                speed = speeds[task][name][0]["train_tokens_per_second"] / 1000
                scores = [100 * row["accuracy"] for row in rows]
                axes.plot([speed, speed], [min(scores), max(scores)], color=f"C{i % 10}")
                axes.plot(speed, statistics.mean(scores), "o" if i < 10 else "^", color=f"C{i % 10}", label=name)
        axes.set(xlabel="training, 1,000 tokens/s", ylabel="test accuracy, %", title=task)
        axes.grid(alpha=0.3)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(0.91, 0.5), fontsize=8)
    save(figure, "mechanisms.svg")


def mechanism_lengths():
    """Seconds and memory of a training step against the length of its one document."""
    found = per_mechanism("mechanism_lengths.jsonl", "step").get("train")
    if not found:
        return
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), gridspec_kw=dict(wspace=0.3))
    for axes, key, unit, label in ((panels[0], "ms_min", 1e3, "s"), (panels[1], "bytes_peak", 2**20, "peak MiB of the process")):
        for i, (name, rows) in enumerate(found.items()):
            points = sorted((row["length"], row[key] / unit) for row in rows)
            axes.loglog(*zip(*points), "-" if i < 6 else "--", marker="o", markersize=3, color=f"C{i % 10}", label=name)
        axes.set_xscale("log", base=2)
        axes.set(xlabel="length, tokens", ylabel=label)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=7)
    figure.suptitle("A training step")
    save(figure, "mechanism_lengths.svg")


if __name__ == "__main__":
    lengths()
    roofline()
    mechanisms()
    mechanism_lengths()
