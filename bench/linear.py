#!/usr/bin/env python3
"""Gated delta attention beside plain PyTorch, chunked and step by step; and how time grows with length.

    .venv/bin/python bench/linear.py [--threads 2] [--length 4096] > bench/results/linear.jsonl

Prints the machine, then a JSON object a line: what, direction, milliseconds (least and median), and
how often fovea is as fast. All through torch, forward and torch.autograd.grad, alternating in one
process. Then linear attention (elu + 1, normalised) and gated delta of 2 heads by length, to 1,048,576
tokens: nanoseconds a token and head, and how many times those of the shortest.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # results of 512 MB: else a quarter to half of the time is the system's
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from case import machine_name  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
import fovea  # noqa: E402


def chunked(q, k, v, g, beta, scale, size=64):
    """The WY form in torch operations (Yang et al. 2025, §3.3), all chunks' inner parts at once."""
    b, h, n, d = q.shape
    split = lambda x: x.reshape(b, h, n // size, size, *x.shape[3:])
    q, k, v, g, beta = map(split, (q, k, v, g, beta))
    total = g.cumsum(-1)
    weights = (total[..., :, None] - total[..., None, :]).tril().exp().tril()
    inner = (beta[..., None] * (k @ k.transpose(-1, -2)) * weights).tril(-1)
    eye = torch.eye(size, dtype=q.dtype)
    written = torch.linalg.solve_triangular(
        inner + eye,
        torch.cat([v, k * total.exp()[..., None]], -1) * beta[..., None],
        upper=False,
        unitriangular=True,
    )
    u, w = written.split([v.shape[-1], d], -1)
    scores = (q @ k.transpose(-1, -2)) * weights
    state = torch.zeros(b, h, d, v.shape[-1], dtype=q.dtype)
    rows = []
    for i in range(n // size):
        new = u[:, :, i] - w[:, :, i] @ state
        decay = total[:, :, i]
        rows.append((q[:, :, i] * decay.exp()[..., None]) @ state + scores[:, :, i] @ new)
        last = decay[..., -1:]
        keys = k[:, :, i] * (last - decay).exp()[..., None]
        state = last.exp()[..., None] * state + keys.transpose(-1, -2) @ new
    return scale * torch.stack(rows, 2).reshape(b, h, n, -1)


def recurrent(q, k, v, g, beta, scale):
    """Step by step."""
    state = torch.zeros(*q.shape[:2], q.shape[3], v.shape[3], dtype=q.dtype)
    rows = []
    for t in range(q.shape[2]):
        state = state * g[:, :, t, None, None].exp()
        error = v[:, :, t] - (k[:, :, t, None] @ state)[:, :, 0]
        state = state + beta[:, :, t, None, None] * k[:, :, t, :, None] * error[:, :, None]
        rows.append((q[:, :, t, None] @ state)[:, :, 0])
    return scale * torch.stack(rows, 2)


def ours(q, k, v, g, beta, scale):
    return fovea.linear_attention(
        q, k, v, causal=True, normalise=False, feature_map="identity", decay=g, beta=beta,
        scale=scale,
    )


def gated_delta_inputs(heads, length, dim, dtype=torch.float32):
    make = lambda *dims: torch.randn(1, heads, length, *dims)
    q, v, d_o = (make(dim).to(dtype) for _ in range(3))
    k = F.normalize(make(dim), dim=-1).to(dtype)
    g, beta = F.logsigmoid(make()) / 16, make().sigmoid()
    return [x.requires_grad_() for x in (q, k, v, g, beta)], d_o


def timed(call, inputs, d_o):
    """Milliseconds of a forward and of its gradients."""
    start = time.perf_counter()
    o = call(*inputs)
    middle = time.perf_counter()
    torch.autograd.grad(o, inputs, d_o)
    return (middle - start) * 1e3, (time.perf_counter() - middle) * 1e3


def by_length(dim, heads=2):
    calls = {  # how many of q, k, v, g, beta
        "linear": (3, lambda q, k, v: fovea.linear_attention(q, k, v, causal=True)),
        "gated_delta": (5, lambda *inputs: ours(*inputs, dim**-0.5)),
    }
    for mechanism, (count, call) in calls.items():
        for dtype in (torch.float32, torch.bfloat16):
            first = None
            for length in (4096, 65536, 262144, 1048576):
                inputs, d_o = gated_delta_inputs(heads, length, dim, dtype)
                times = [timed(call, inputs[:count], d_o) for _ in range(3 if length > 100000 else 10)]
                per_token = [min(t) * 1e6 / (heads * length) for t in zip(*times)]
                first = first or per_token
                for direction, ns, short in zip(("forward", "backward"), per_token, first):
                    print(json.dumps(dict(mechanism=mechanism, direction=direction, dtype=str(dtype)[6:], heads=heads,
                                          length=length, head_dim=dim, ns_per_token_and_head=round(ns, 1),
                                          of_the_shortest=round(ns / short, 3))), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(json.dumps(dict(machine=machine_name(), threads=arguments.threads, torch=torch.__version__,
                          date=datetime.date.today().isoformat())), flush=True)
    inputs, d_o = gated_delta_inputs(arguments.heads, arguments.length, arguments.head_dim)
    peers = {"fovea": ours, "torch chunked": chunked, "torch step by step": recurrent}
    scale = arguments.head_dim**-0.5
    expected = ours(*inputs, scale).detach()
    times = {}
    for name, peer in peers.items():
        error = (peer(*inputs, scale).detach() - expected).abs().max() / expected.abs().max()
        assert error < 1e-4, (name, error)
    for i in range(arguments.repeat):
        for name, peer in peers.items():
            if name == "torch step by step" and i >= 2:
                continue
            forward, backward = timed(lambda *x: peer(*x, scale), inputs, d_o)
            times.setdefault((name, "forward"), []).append(forward)
            times.setdefault((name, "backward"), []).append(backward)
    for (name, direction), values in times.items():
        best = min(values)
        row = {
            "mechanism": "gated_delta",
            "what": name,
            "direction": direction,
            "heads": arguments.heads,
            "length": arguments.length,
            "head_dim": arguments.head_dim,
            "ms_min": round(best, 3),
            "ms_median": round(statistics.median(values), 3),
            "fovea_is_faster": round(best / min(times["fovea", direction]), 2),
        }
        print(json.dumps(row), flush=True)
    by_length(arguments.head_dim)


if __name__ == "__main__":
    main()
