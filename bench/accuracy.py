#!/usr/bin/env python3
"""Error of every engine beside PyTorch's own attention, both against double precision.

    .venv/bin/python bench/accuracy.py > bench/results/accuracy.jsonl

Inputs are normal numbers rounded to the storage type; the truth is torch's attention on the same
numbers in float64. An error is taken relative to the largest element of the truth, at most and on
average, of o and of the gradients. FOVEA_MAX_ISA chooses the engine, in a process for each.
"""
import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DTYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
SHAPE = (1, 4, 1024, 64)


def error(got, truth):
    """(largest, mean) error, relative to the largest element of the truth."""
    difference = (got.double() - truth).abs() / truth.abs().max()
    return difference.max().item(), difference.mean().item()


def measure(contestant, dtype, pattern):
    """Rows for one contestant in this process."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    leaves = [torch.randn(SHAPE).to(dtype).requires_grad_() for _ in range(3)]
    d_o = torch.randn(SHAPE).to(dtype)
    if contestant == "torch.sdpa":
        o = F.scaled_dot_product_attention(*leaves, is_causal=pattern == "causal")
    else:
        sys.path.insert(0, str(ROOT / "python"))
        import fovea

        o = fovea.attention(*leaves, pattern)
    got = [o, *torch.autograd.grad(o, leaves, d_o)]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    o = F.scaled_dot_product_attention(*exact, is_causal=pattern == "causal")
    truth = [o, *torch.autograd.grad(o, exact, d_o.double())]
    for name, ours, theirs in zip(("o", "d_q", "d_k", "d_v"), got, truth):
        largest, mean = error(ours.detach(), theirs.detach())
        yield dict(tensor=name, max_error=float(f"{largest:.3g}"), mean_error=float(f"{mean:.3g}"))


def child(contestant, dtype, pattern):
    import torch

    for row in measure(contestant, getattr(torch, DTYPES[dtype]), pattern):
        print(json.dumps(dict(contestant=contestant, dtype=dtype, pattern=pattern, **row)))


def engines(program, dtype):
    """Names of the engines of this machine that run a storage type."""
    def doctor(**environment):
        out = subprocess.run([program, "doctor", "--json"], capture_output=True, text=True, check=True,
                             env={**os.environ, **environment})
        return json.loads(out.stdout)

    names = doctor()["isa_supported"].split(", ")
    return [name for name in names if doctor(FOVEA_MAX_ISA=name)["engines"].get(dtype) == name]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/fovea"))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(*args.child)
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always"], capture_output=True, text=True).stdout.strip()
    print(json.dumps(dict(shape="b{}_h{}_q{}_d{}".format(*SHAPE), commit=commit, date=datetime.date.today().isoformat())))
    for dtype in DTYPES:
        for engine in [*engines(args.program, dtype), None]:
            environment = dict(os.environ, FOVEA_MAX_ISA=engine) if engine else os.environ
            contestant = f"fovea {engine}" if engine else "torch.sdpa"
            for pattern in ("full", "causal"):
                subprocess.run([sys.executable, __file__, "--child", contestant, dtype, pattern],
                               env=environment, check=True)


if __name__ == "__main__":
    main()
