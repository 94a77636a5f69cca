"""Merging partial results: splits of the keys are the whole, with every gradient."""

import math

import pytest
import torch
from cases import operands, packed_operands

import fovea


def parts_of(q, k, v, cuts, **kw):
    bounds = [0, *cuts, k.shape[2]]
    return [fovea.attention(q, k[:, :, a:b], v[:, :, a:b], return_lse=True, **kw)
            for a, b in zip(bounds, bounds[1:])]


@pytest.mark.parametrize("cuts", [[], [7], [70, 71, 80]])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_splits_are_the_whole(cuts, with_sinks):
    q, k, v = operands(sq=70, sk=81)
    sinks = torch.randn(4, dtype=torch.float64, requires_grad=True) if with_sinks else None
    merged = fovea.attention_merge(parts_of(q, k, v, cuts), sinks=sinks)
    whole = fovea.attention(q, k, v, sinks=sinks, return_lse=True)
    torch.testing.assert_close(merged, whole, rtol=0, atol=1e-13)
    d_o, d_lse = torch.randn(2, 4, 70, 16).double(), torch.randn(2, 4, 70).double()
    inputs = (q, k, v, sinks) if with_sinks else (q, k, v)
    torch.testing.assert_close(torch.autograd.grad(merged, inputs, (d_o, d_lse)),
                               torch.autograd.grad(whole, inputs, (d_o, d_lse)),
                               rtol=0, atol=1e-12)


def test_rows_that_no_part_or_one_part_sees():
    q, k, v = operands(sq=12, sk=12)
    left = fovea.attention(q, k[:, :, :4], v[:, :, :4], "causal", top_left=True, return_lse=True)
    nothing = fovea.attention(q, k[:, :, :2], v[:, :, :2], "causal", return_lse=True)
    assert (nothing[1][:, :, :10] == -math.inf).all()
    o, lse = fovea.attention_merge([left, nothing])
    torch.testing.assert_close(o[:, :, :10], left[0][:, :, :10], rtol=0, atol=1e-15)
    o, lse = fovea.attention_merge([nothing, nothing], sinks=torch.zeros(4).double())
    assert (o[:, :, :10] == 0).all() and (lse[:, :, :10] == -math.inf).all()
    gradients = torch.autograd.grad(o.sum() + lse[:, :, 10:].sum(), (q, k, v))
    assert all(x.isfinite().all() for x in gradients)


def test_packed():
    q, k, v, offsets = packed_operands([20, 13])
    whole = fovea.attention_varlen(q, k, v, offsets, offsets, "window(6)", return_lse=True)
    parts = [fovea.attention_varlen(q, k, v, offsets, offsets, pattern, return_lse=True)
             for pattern in ("window(6,0)", "window(0,6)")]
    own = fovea.attention_varlen(q, k, v, offsets, offsets, "window(0)", return_lse=True)
    # Both halves hold the own key: the merged denominator is the whole's plus the own key's.
    o, lse = fovea.attention_merge(parts)
    merged_whole = fovea.attention_merge([whole, own])
    torch.testing.assert_close((o, lse), merged_whole, rtol=0, atol=1e-13)


def test_gradients_twice():
    make = lambda *shape: torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    inputs = (make(1, 2, 3, 4), make(1, 2, 3), make(1, 2, 3, 4), make(1, 2, 3), make(2))
    f = lambda o1, l1, o2, l2, sinks: fovea.attention_merge([(o1, l1), (o2, l2)], sinks=sinks)
    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_types(dtype):
    q, k, v = [x.detach().to(dtype) for x in operands(sq=70, sk=81)]
    o, lse = fovea.attention_merge(parts_of(q, k, v, [30, 60]))
    whole = fovea.attention(q, k, v, return_lse=True)
    assert o.dtype == dtype and lse.dtype == torch.float32
    # Each part was rounded once, and so was the sum.
    assert (o - whole[0]).abs().max() <= 2 * torch.finfo(dtype).eps * v.abs().max()


def test_opcheck_and_compile():
    q, k, v = operands(sq=9, sk=11, dv=8)
    o, lse = zip(*(tuple(x.detach() for x in part) for part in parts_of(q, k, v, [5])))
    torch.library.opcheck(torch.ops.fovea.attention_merge, (list(o), list(lse)),
                          {"sinks": torch.randn(4)})
    compiled = torch.compile(lambda q, k, v: fovea.attention_merge(parts_of(q, k, v, [5]))[0],
                             fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q, k, v), fovea.attention(q, k, v), rtol=0, atol=1e-13)


@pytest.mark.parametrize("parts, message", [
    ([(torch.zeros(2, 4, 5, 8), torch.zeros(2, 4, 6))], "parts of one shape"),
    ([(torch.zeros(2, 5, 8), torch.zeros(2, 5))], "parts of one shape"),
    ([(torch.zeros(5, 8), torch.zeros(5))], "expected o"),
])
def test_errors(parts, message):
    with pytest.raises(RuntimeError, match=message):
        fovea.attention_merge(parts)
