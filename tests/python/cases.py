"""Operands, dense masks and plain definitions that the tests share."""

import math

import torch

PATTERNS = ["full", "causal", "window(5,3)", "window(4)|global(2)", "dilated(6,6,3)", "chunked(8)"]


def operands(b=2, hq=4, hkv=2, sq=19, sk=23, d=8, dv=16, dtype=torch.float64, grad=True):
    make = lambda *shape: torch.randn(*shape, dtype=dtype).requires_grad_(grad)
    return make(b, hq, sq, d), make(b, hkv, sk, d), make(b, hkv, sk, dv)


def packed_operands(lengths, hq=4, hkv=2, d=8, dtype=torch.float64, grad=True):
    t = sum(lengths)
    make = lambda h: torch.randn(t, h, d, dtype=dtype).requires_grad_(grad)
    offsets = [0]
    for length in lengths:
        offsets.append(offsets[-1] + length)
    return make(hq), make(hkv), make(hkv), torch.tensor(offsets, dtype=torch.int32)


def mask_of(pattern, sq, sk):
    """Dense mask of a pattern, written from the definitions in docs/patterns.md."""
    i = torch.arange(sq)[:, None] + (sk - sq)
    j = torch.arange(sk)[None, :]
    masks = {
        "full": torch.ones(sq, sk, dtype=torch.bool),
        "causal": j <= i,
        "window(5,3)": (j >= i - 5) & (j <= i + 3),
        "window(4)|global(2)": ((i - j).abs() <= 4) | (j < 2) | (i < 2),
        "dilated(6,6,3)": ((i - j).abs() <= 6) & ((i - j) % 3 == 0),
        "chunked(8)": i.div(8, rounding_mode="floor") == j.div(8, rounding_mode="floor"),
    }
    return masks[pattern]


def plain_attention(q, k, v, mask):
    """The definition in torch operations: (o, lse)."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    s = (q @ k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
    s = s.masked_fill(~mask, -math.inf)
    lse = s.logsumexp(-1)
    weights = (s - lse[..., None]).exp().nan_to_num(0.0)
    return weights @ v, lse
