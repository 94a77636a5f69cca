#!/usr/bin/env python3
"""Times fovea beside the CPU kernels of idiap's fast-transformers: causal linear attention and local windows.

    pip download --no-deps --no-binary :all: pytorch-fast-transformers==0.4.0 && tar xf pytorch-fast-transformers-*.tar.gz
    .venv/bin/python bench/idiap.py pytorch-fast-transformers-0.4.0 > bench/results/idiap.jsonl

Their scalar C++ kernels are compiled here with -O3 -march=native -ffast-math -fopenmp. Batch 1, 12 heads of 64, 4,096 tokens, f32.
Linear: their kernel and the allocation of its outputs, without feature map and normaliser, which ours includes; theirs knows f32 only, ours bf16 too. Window: 513 keys, q·k, softmax and
the weighted mean. Contestants take turns, 10 each; the least time counts. Prints the machine, then a JSON object for each contestant.
"""
import argparse
import datetime
import json
import os
import sys
import time
from pathlib import Path

import torch
from torch.utils.cpp_extension import load

from case import machine_name

ROOT = Path(__file__).resolve().parent.parent
B, H, N, D, WINDOW = 1, 12, 4096, 64, 513


def build(folder):
    flags = ["-O3", "-fopenmp", "-ffast-math", "-march=native"]
    return [load(f"{name}_cpu", [f"{folder}/fast_transformers/{name}/{name}_cpu.cpp"], extra_cflags=flags)
            for name in ("causal_product", "local_product")]


def inputs(dtype=torch.float32):
    torch.manual_seed(0)
    return [torch.rand(B, H, N, D).to(dtype) for _ in range(4)]


def their_linear(causal_product):
    q, k, v, d_o = inputs()

    def zeros(count):  # as their own wrapper makes what the kernels write
        return [torch.zeros(B, H, N, D) for _ in range(count)]

    return dict(fwd=lambda: causal_product.causal_dot_product(q, k, v, *zeros(1)),
                bwd=lambda: causal_product.causal_dot_backward(q, k, v, d_o, *zeros(3)))


def their_window(local_product):
    q, k, v, d_o = inputs()
    mask, lengths = torch.zeros(N, N), torch.full((B,), N, dtype=torch.long)

    def weights():
        return torch.softmax(local_product.local_dot_product(q, k, mask, lengths, WINDOW), -1)

    kept = weights()

    def backward():
        d_weights, _ = local_product.local_weighted_average_backward(kept, v, d_o)
        d_scores = kept * (d_weights - (kept * d_weights).sum(-1, keepdim=True))
        local_product.local_dot_backward(q, k, lengths, d_scores, WINDOW)

    return dict(fwd=lambda: local_product.local_weighted_average(weights(), v), bwd=backward)


def ours(call, dtype=torch.float32):
    q, k, v, d_o = inputs(dtype)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    o = call(*leaves)

    @torch.no_grad()
    def forward():
        call(*leaves)

    return dict(fwd=forward, bwd=lambda: torch.autograd.grad(o, leaves, d_o, retain_graph=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", help="unpacked source package of pytorch-fast-transformers")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT / "python"))
    import fovea

    torch.set_num_threads(args.threads)
    causal_product, local_product = build(args.folder)
    print(json.dumps(dict(machine=machine_name(), threads=args.threads, torch=torch.__version__,
                          date=datetime.date.today().isoformat())), flush=True)
    def linear(q, k, v):
        return fovea.linear_attention(q, k, v, causal=True)

    pairs = {
        "causal linear": (their_linear(causal_product), ours(linear)),
        "causal linear, fovea in bf16": (their_linear(causal_product), ours(linear, torch.bfloat16)),
        "window of 513 keys": (their_window(local_product), ours(lambda q, k, v: fovea.attention(q, k, v, "window(256)"))),
    }
    for work, contestants in pairs.items():
        for step in ("fwd", "bwd"):
            calls = [calls[step] for calls in contestants]
            times = [[], []]
            for turn in range(args.turns + 1):
                for i, call in enumerate(calls):
                    start = time.perf_counter()
                    call()
                    if turn > 0:
                        times[i].append((time.perf_counter() - start) * 1e3)
            for name, values in zip(("idiap", "fovea"), times):
                print(json.dumps(dict(work=work, step=step, contestant=name, ms_min=round(min(values), 2),
                                      ms_median=round(sorted(values)[len(values) // 2], 2), turns=args.turns,
                                      ratio=round(min(times[0]) / min(values), 2))), flush=True)


if __name__ == "__main__":
    main()
