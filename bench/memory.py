#!/usr/bin/env python3
"""What a window with a linear memory costs beside its parts.

    .venv/bin/python bench/memory.py [--threads 2] [--length 4096] [--window 128] >> bench/results/memory.jsonl

One JSON object a line: what, direction, milliseconds (least and median); for the joined ones how many times the sum of
their parts, the window and a linear attention for each side, that is. All through torch, forward and
torch.autograd.grad, alternating in one process, gradients of one packed qkv tensor for each.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
import fovea  # noqa: E402,F401

OPS = torch.ops.fovea


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--cpu-time", action="store_true", help="of one thread, on a busy machine")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    dtype = getattr(torch, a.dtype)
    n, h, d, w = a.length, a.heads, a.head_dim, a.window
    qkv = torch.randn(n, 3 * h, d).to(dtype).requires_grad_()
    gain = torch.zeros(h, requires_grad=True)
    offsets = torch.tensor([0, n], dtype=torch.int32)
    parts = [x.detach().requires_grad_() for x in qkv.split(h, 1)]
    d_o = torch.randn(n, h, d).to(dtype)

    def window(pattern):
        return lambda: (OPS.attention_qkv(qkv, h, offsets, pattern)[0], [qkv])

    def linear():
        o = OPS.linear_attention(*parts, cu_seqlens_q=offsets, cu_seqlens_k=offsets, causal=True)[0]
        return o, parts

    def joined(pattern, right):
        return lambda: (
            OPS.attention_qkv_memory(
                qkv, h, offsets, gain.expand(n, h), None, None, w + 1, right, pattern=pattern)[0],
            [qkv, gain])

    both, before = f"window({w})", f"window({w},0)"
    calls = {
        both: window(both),
        before: window(before),
        "linear(causal)": linear,
        f"{both}+linear": joined(both, w + 1),
        f"{before}+linear(causal)": joined(before, 0),
    }
    sums = {f"{both}+linear": (both, 2), f"{before}+linear(causal)": (before, 1)}
    clock = time.process_time if a.cpu_time else time.perf_counter
    times = {}
    for _ in range(a.repeat):
        for name, call in calls.items():
            start = clock()
            o, inputs = call()
            middle = clock()
            torch.autograd.grad(o, inputs, d_o)
            end = clock()
            times.setdefault((name, "forward"), []).append((middle - start) * 1e3)
            times.setdefault((name, "backward"), []).append((end - middle) * 1e3)
    for (name, direction), values in times.items():
        row = {
            "what": name,
            "direction": direction,
            "heads": h,
            "length": n,
            "head_dim": d,
            "dtype": a.dtype,
            "threads": a.threads,
            "clock": "cpu" if a.cpu_time else "wall",
            "ms_min": round(min(values), 3),
            "ms_median": round(statistics.median(values), 3),
            "torch": torch.__version__,
        }
        if name in sums:
            part, sides = sums[name]
            total = min(times[part, direction]) + sides * min(times["linear(causal)", direction])
            row["of_the_sum_of_its_parts"] = round(min(values) / total, 3)
        print(json.dumps(row))


if __name__ == "__main__":
    main()
