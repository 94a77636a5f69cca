#!/usr/bin/env python3
"""Times fovea's attention beside PyTorch's own in one process, through the same door.

    .venv/bin/python bench/attention.py [--cases bench/cases/peers.txt | --case ID ...] [--flex] [--unfused]

Ours is torch.ops.fovea.attention, theirs scaled_dot_product_attention (with a boolean mask where the
pattern is not full or causal) and, with --flex, compiled FlexAttention (forward only: it has no
backward on a CPU) and, with --unfused, SDPA's path of plain products and softmax. Backward is timed
as torch.autograd.grad of a kept graph. Contestants take turns; a turn is one call; at least 10 turns
each. Allocation and plan look-up are included, the first call is reported apart (first_ms). Prints one JSON object a line: first the machine with the peak that
`fovea bench attention` measured in the same run, then one object for each case and contestant.
gflops counts 4·pairs·D forward and 10·pairs·D backward over the pairs that the pattern allows.
"""
import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from case import DTYPES, Case, read_cases

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))

def flex_call(case):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    if case.backward or case.kind == "full":
        return None
    w = case.width
    if case.kind == "causal":
        mod = (lambda b, h, i, j: (i >= j) & (i - j < w)) if w else (lambda b, h, i, j: i >= j)
    else:
        mod = lambda b, h, i, j: (i - j).abs() <= w
    blocks = create_block_mask(mod, None, None, case.q, case.k, device="cpu")
    compiled = torch.compile(flex_attention)
    return lambda q, k, v: compiled(q, k, v, block_mask=blocks, enable_gqa=case.kv != case.h)


def unfused(call):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def run_unfused(*operands):
        with sdpa_kernel(SDPBackend.MATH):
            return call(*operands)
    return run_unfused


def contestants(case, with_flex, with_unfused):
    """Name -> function(q, k, v) -> o."""
    import fovea

    mask = case.mask()
    calls = {
        "fovea": lambda q, k, v: fovea.attention(q, k, v, case.pattern),
        "torch.sdpa": lambda q, k, v: F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=case.kind == "causal" and mask is None,
            enable_gqa=case.kv != case.h),
    }
    if with_flex and (flex := flex_call(case)):
        calls["torch.flex"] = flex
    if with_unfused:
        calls["torch.unfused"] = unfused(calls["torch.sdpa"])
    return calls


def timed(function):
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1e3


def run(case, with_flex, with_unfused, turns):
    q, k, v = case.tensors()
    closures, outputs, first = {}, {}, {}
    for name, call in contestants(case, with_flex, with_unfused).items():
        if case.backward:
            leaves = [t.clone().requires_grad_() for t in (q, k, v)]
            o = call(*leaves)
            d_o = torch.randn(o.shape, generator=torch.Generator().manual_seed(1)).to(case.dtype)
            closures[name] = lambda o=o, leaves=leaves, d_o=d_o: torch.autograd.grad(
                o, leaves, d_o, retain_graph=True)
        else:
            closures[name] = torch.no_grad()(lambda call=call: call(q, k, v))
        first[name] = timed(closures[name])
        outputs[name] = closures[name]()
    check(case, outputs)
    times = {name: [] for name in closures}
    for _ in range(turns):
        for name, closure in closures.items():
            times[name].append(timed(closure))
    for name, values in times.items():
        best = min(values)
        yield dict(case=case.id, contestant=name, ms_min=round(best, 3),
                   ms_median=round(statistics.median(values), 3), first_ms=round(first[name], 3),
                   spread=round(statistics.median(values) / best, 3), turns=turns,
                   gflops=round(case.flops() / best / 1e6, 1),
                   ratio=round(min(times["torch.sdpa"]) / best, 2))


def check(case, outputs):
    """A fast wrong answer is no answer: all contestants must agree to the dtype's precision."""
    flat = {n: torch.cat([t.float().flatten() for t in (o if isinstance(o, tuple) else (o,))])
            for n, o in outputs.items()}
    bound = 2e-4 if case.dtype == torch.float32 else 6e-2
    for name, values in flat.items():
        error = (values - flat["torch.sdpa"]).abs().max() / flat["torch.sdpa"].abs().max()
        if not error < bound:
            sys.exit(f"bench/attention.py: {case.id}: {name} differs from torch.sdpa by {error:.1e}")


def machine(program, threads):
    """Machine, versions and the peaks of each storage type as the program measures them, in this run."""
    cases = [f"--case=b1_h4_q1024_k1024_d64_{dtype}_full_fwd" for dtype in DTYPES]
    out = subprocess.run([program, "bench", "attention", *cases, "--json", "--threads", str(threads)],
                         capture_output=True, text=True, check=True)
    rows = dict(zip(DTYPES, map(json.loads, out.stdout.splitlines())))
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"],
                            capture_output=True, text=True).stdout.strip()
    return dict(machine=rows["f32"]["machine"], isa={d: row["isa"] for d, row in rows.items()},
                threads=threads, commit=commit,
                peak_gflops={d: round(row["peak_gflops"], 1) for d, row in rows.items()},
                torch=torch.__version__, torch_capability=torch.backends.cpu.get_cpu_capability(),
                date=datetime.date.today().isoformat())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=Path, default=ROOT / "bench/cases/peers.txt")
    parser.add_argument("--case", action="append")
    parser.add_argument("--flex", action="store_true")
    parser.add_argument("--unfused", action="store_true")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/fovea"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ids = args.case or read_cases(args.cases)
    print(json.dumps(machine(args.program, args.threads)), flush=True)
    for case_id in ids:
        for row in run(Case(case_id), args.flex, args.unfused, max(10, args.turns)):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
