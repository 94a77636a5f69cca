"""A memory of the tokens outside a window, joined to the window's result: ``linear_memory``."""

import pytest
import torch
import torch.nn.functional as F
from cases import packed_operands

import fovea  # noqa: F401

OPS = torch.ops.fovea


def problem(lengths=(3, 17, 9), heads=4, kv_heads=2, dtype=torch.float64, window="window(2,1)"):
    q, k, v, offsets = packed_operands(list(lengths), hq=heads, hkv=kv_heads, dtype=dtype)
    gain = torch.randn(q.shape[0], heads, dtype=dtype, requires_grad=True)
    o, lse = OPS.attention_varlen(q, k, v, offsets, offsets, window)
    o, lse = (x.detach().requires_grad_() for x in (o, lse))
    return q, k, v, o, lse, gain, offsets


def definition(q, k, v, o, lse, gain, offsets, left, right):
    """Every pair; lse of the window joins as one more weight."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    t = torch.arange(q.shape[0])
    document = torch.bucketize(t, offsets[1:], right=True)
    distance = t[:, None] - t[None]
    sees = torch.zeros(len(t), len(t), dtype=torch.bool)
    if left:
        sees |= distance >= left
    if right:
        sees |= -distance >= right
    sees &= document[:, None] == document
    w = torch.einsum("thd,shd->hts", F.elu(q) + 1, F.elu(k) + 1) * gain.exp().T[:, :, None] * sees
    near = lse.exp()
    total = near + w.sum(-1)
    sums = torch.einsum("hts,shd->thd", w, v) + near.T[:, :, None] * o
    return sums / total.T[:, :, None], total.log()


@pytest.mark.parametrize("left,right", [(3, 2), (1, 0), (0, 4), (40, 1), (0, 0)])
def test_is_its_definition(left, right):
    *inputs, offsets = problem()
    got = OPS.linear_memory(*inputs, offsets, left=left, right=right)
    wanted = definition(*inputs, offsets, left, right)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-13)
    d = tuple(torch.randn_like(x) for x in got)
    torch.testing.assert_close(
        torch.autograd.grad(got, inputs, d),
        torch.autograd.grad(wanted, inputs, d, allow_unused=True, materialize_grads=True),
        rtol=0, atol=1e-12)


def test_gradcheck():
    *inputs, offsets = problem((2, 5), heads=2, kv_heads=1)
    call = lambda *x: OPS.linear_memory(*x, offsets, left=2, right=2)
    assert torch.autograd.gradcheck(call, inputs)


def test_two_calls_are_one_for_both_sides():
    *inputs, offsets = problem()
    q, k, v, o, lse, gain = inputs
    both = OPS.linear_memory(*inputs, offsets, left=3, right=2)
    before = OPS.linear_memory(*inputs, offsets, left=3)
    one_by_one = OPS.linear_memory(q, k, v, *before, gain, offsets, right=2)
    torch.testing.assert_close(one_by_one, both, rtol=0, atol=1e-14)
    d = tuple(torch.randn_like(x) for x in both)
    torch.testing.assert_close(torch.autograd.grad(one_by_one, inputs, d),
                               torch.autograd.grad(both, inputs, d), rtol=0, atol=1e-12)


def test_a_window_that_saw_nothing():
    q, k, v, o, lse, gain, offsets = problem()
    nothing = torch.full_like(lse, -torch.inf)
    o, lse = OPS.linear_memory(q, k, v, torch.zeros_like(o), nothing, gain, offsets, left=1)
    first = offsets[:-1].long()
    assert (o[first] == 0).all() and (lse[:, first] == -torch.inf).all()
    gradients = torch.autograd.grad(o.square().sum(), (q, k, v, gain))
    assert all(x.isfinite().all() for x in gradients)


def test_opcheck():
    *inputs, offsets = problem((3, 4))
    arguments = {"left": 2, "right": 1}
    torch.library.opcheck(OPS.linear_memory, (*inputs, offsets), arguments)
    q, k, v, o, lse, gain = (x.detach() for x in inputs)
    o, lse = OPS.linear_memory(q, k, v, o, lse, gain, offsets, **arguments)
    backward = (torch.randn_like(o), torch.randn_like(lse), q, k, v, o, lse, gain, offsets)
    torch.library.opcheck(OPS.linear_memory_backward, backward, arguments)


def joined(*leaves, window="window(2,1)", left=3, right=2, **kw):
    """attention_qkv and linear_memory, one after the other."""
    qkv, gain, offsets = leaves
    q, k, v = qkv.split([4, 2, 2], 1)
    o, lse = OPS.attention_qkv(qkv, 4, offsets, window, **kw)
    return OPS.linear_memory(q, k, v, o, lse, gain, offsets, left=left, right=right)


@pytest.mark.parametrize("own", [True, False])
def test_window_and_memory_in_one(own):
    """The window's backward from the joined result is the chain rule's."""
    qkv = torch.randn(20, 8, 8, dtype=torch.float64, requires_grad=True)
    gain = torch.randn(20, 4, dtype=torch.float64, requires_grad=True)
    offsets = torch.tensor([0, 7, 20], dtype=torch.int32)
    sinks = torch.randn(4, dtype=torch.float64, requires_grad=True)
    extra = {"sinks": sinks, "softcap": 3.0, "dropout_p": 0.3, "dropout_seed": 4}
    inputs = [qkv, gain, sinks]
    if own:
        got = OPS.attention_qkv_memory(
            qkv, 4, offsets, gain, None, None, 3, 2, pattern="window(2,1)", **extra)
        wanted = joined(qkv, gain, offsets, **extra)
    else:
        features = [torch.rand(20, h, 16, dtype=torch.float64, requires_grad=True) for h in (4, 2)]
        inputs += features
        got = OPS.attention_qkv_memory(
            qkv, 4, offsets, gain, *features, 3, 2, "identity", "window(2,1)", **extra)
        o, lse = OPS.attention_qkv(qkv, 4, offsets, "window(2,1)", **extra)
        wanted = OPS.linear_memory(*features, qkv[:, 6:], o, lse, gain, offsets, left=3, right=2,
                                   feature_map="identity")
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-14)
    d = tuple(torch.randn_like(x) for x in got)
    torch.testing.assert_close(torch.autograd.grad(got, inputs, d),
                               torch.autograd.grad(wanted, inputs, d), rtol=0, atol=1e-12)


def test_opcheck_window_and_memory():
    qkv = torch.randn(7, 4, 8, dtype=torch.float64, requires_grad=True)
    gain = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    offsets = torch.tensor([0, 3, 7], dtype=torch.int32)
    torch.library.opcheck(OPS.attention_qkv_memory, (qkv, 2, offsets, gain, None, None, 2, 2),
                          {"pattern": "window(1)"})


def test_autocast_takes_bfloat16():
    *inputs, offsets = problem(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        o, lse = OPS.linear_memory(*inputs, offsets, left=3)
    assert o.dtype == torch.bfloat16 and lse.dtype == torch.float32
    wide, _ = OPS.linear_memory(*inputs, offsets, left=3)
    assert (o - wide).abs().max() < 8 * 2**-8 * wide.abs().max()


def test_errors():
    *inputs, offsets = problem()
    with pytest.raises(RuntimeError, match="left and right of at least 0, got -1"):
        OPS.linear_memory(*inputs, offsets, left=-1)
    with pytest.raises(RuntimeError, match="feature_map identity"):
        OPS.linear_memory(*inputs, offsets, feature_map="exp")
