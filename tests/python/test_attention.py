"""The attention operators against their definition, torch's own attention and autograd's checks."""

import math

import pytest
import torch
import torch.nn.functional as F
from cases import PATTERNS, mask_of, operands, packed_operands, plain_attention

import fovea


def errors(actual, expected):
    return [(a - e).abs().max().item() for a, e in zip(actual, expected)]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_definition_forward_and_backward(pattern):
    q, k, v = operands(sq=70, sk=81)
    d_o, d_lse = torch.randn(2, 4, 70, 16).double(), torch.randn(2, 4, 70).double()
    o, lse = fovea.attention(q, k, v, pattern, return_lse=True)
    o_plain, lse_plain = plain_attention(q, k, v, mask_of(pattern, 70, 81))
    torch.testing.assert_close(o, o_plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(lse, lse_plain, rtol=0, atol=1e-12)
    ours = torch.autograd.grad((o, lse), (q, k, v), (d_o, d_lse))
    plain = torch.autograd.grad((o_plain, lse_plain), (q, k, v), (d_o, d_lse))
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-11)


@pytest.mark.parametrize("pattern", ["full", "causal", "window(5,3)"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_worse_than_twice_torch(pattern, dtype):
    """Against float64, our error is at most twice that of torch's kernel in the same type."""
    n, d = 200, 64
    exact = operands(hkv=4, sq=n, sk=n, d=d, dv=d)
    low = [x.detach().to(dtype).requires_grad_() for x in exact]
    exact = [x.detach().double().requires_grad_() for x in low]
    d_o = torch.randn(2, 4, n, d, dtype=dtype)
    # torch's flash kernel takes no bool mask without materialising it: the sum is the same.
    mask = None if pattern == "full" else mask_of(pattern, n, n)
    torch_o = F.scaled_dot_product_attention(*low, attn_mask=mask)
    exact_o = F.scaled_dot_product_attention(*exact, attn_mask=mask)
    o = fovea.attention(*low, pattern)
    assert o.dtype == dtype
    bound = lambda mine, theirs, truth: (mine.double() - truth).norm() <= 2 * (
        theirs.double() - truth
    ).norm()
    assert bound(o, torch_o, exact_o)
    grads = lambda out, ins: torch.autograd.grad(out, ins, d_o.to(out.dtype))
    for mine, theirs, truth in zip(grads(o, low), grads(torch_o, low), grads(exact_o, exact)):
        assert mine.dtype == dtype
        assert bound(mine, theirs, truth)


@pytest.mark.parametrize("pattern", ["full", "causal", "window(2,1)|global(1)"])
def test_gradcheck(pattern):
    q, k, v = operands(b=1, sq=5, sk=7, dv=8)
    f = lambda q, k, v: fovea.attention(q, k, v, pattern, return_lse=True)
    assert torch.autograd.gradcheck(f, (q, k, v))


def test_gradcheck_dropout():
    q, k, v = operands(b=1, sq=5, sk=7, dv=8)
    f = lambda q, k, v: fovea.attention(q, k, v, dropout_p=0.4, dropout_seed=3)
    assert torch.autograd.gradcheck(f, (q, k, v))


def test_gradcheck_varlen():
    q, k, v, offsets = packed_operands([3, 1, 4])
    f = lambda q, k, v: fovea.attention_varlen(
        q, k, v, offsets, offsets, "window(2,0)", return_lse=True
    )
    assert torch.autograd.gradcheck(f, (q, k, v))


def test_gradcheck_qkv():
    _, _, _, offsets = packed_operands([3, 1, 4])
    qkv = torch.randn(8, 2 + 2 * 1, 8, dtype=torch.float64, requires_grad=True)
    f = lambda qkv: torch.ops.fovea.attention_qkv(qkv, 2, offsets, "causal")
    assert torch.autograd.gradcheck(f, (qkv,))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_packed_is_separate(pattern):
    lengths = [70, 1, 129, 3]
    q, k, v, offsets = packed_operands(lengths)
    d_o = torch.randn_like(q)
    o, lse = fovea.attention_varlen(q, k, v, offsets, offsets, pattern, return_lse=True)
    grads = torch.autograd.grad(o, (q, k, v), d_o)
    for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist()):
        part = [x[begin:end].detach().transpose(0, 1)[None].requires_grad_() for x in (q, k, v)]
        o_alone, lse_alone = fovea.attention(*part, pattern, return_lse=True)
        torch.testing.assert_close(o[begin:end], o_alone[0].transpose(0, 1), rtol=0, atol=1e-13)
        torch.testing.assert_close(lse[:, begin:end], lse_alone[0], rtol=0, atol=1e-13)
        alone = torch.autograd.grad(o_alone, part, d_o[begin:end].transpose(0, 1)[None])
        for whole, single in zip(grads, alone):
            torch.testing.assert_close(
                whole[begin:end], single[0].transpose(0, 1), rtol=0, atol=1e-12
            )


def test_qkv_is_varlen():
    qkv = torch.randn(50, 4 + 2 * 2, 8, dtype=torch.float64, requires_grad=True)
    offsets = torch.tensor([0, 20, 50], dtype=torch.int32)
    q, k, v = qkv.split([4, 2, 2], dim=1)
    o, lse = torch.ops.fovea.attention_qkv(qkv, 4, offsets, "window(7)")
    o_split, lse_split = torch.ops.fovea.attention_varlen(q, k, v, offsets, offsets, "window(7)")
    assert torch.equal(o, o_split) and torch.equal(lse, lse_split)
    d_o = torch.randn_like(o)
    assert torch.equal(
        torch.autograd.grad(o, qkv, d_o)[0], torch.autograd.grad(o_split, qkv, d_o)[0]
    )


def test_per_batch_inputs():
    q, k, v = operands(sq=40, sk=40)
    j, i = torch.arange(40)[None, :], torch.arange(40)[:, None]
    lengths = torch.tensor([17, 40])
    o = fovea.attention(q, k, v, "key_lengths & causal", key_lengths=lengths)
    mask = ((j < lengths[:, None, None]) & (j <= i))[:, None]
    torch.testing.assert_close(o, plain_attention(q, k, v, mask)[0], rtol=0, atol=1e-12)

    ranges = torch.stack([torch.arange(40) // 2, torch.arange(40) // 2 + 3], dim=1).int()
    o = fovea.attention(q, k, v, "intervals", intervals=ranges)
    mask = (j >= ranges[:, :1]) & (j < ranges[:, 1:])
    torch.testing.assert_close(o, plain_attention(q, k, v, mask)[0], rtol=0, atol=1e-12)

    blocks = torch.eye(5, dtype=torch.bool) | (torch.arange(5) == 0)
    o = fovea.attention(q, k, v, "block_mask(8)", block_mask=blocks)
    mask = blocks.repeat_interleave(8, 0).repeat_interleave(8, 1)
    torch.testing.assert_close(o, plain_attention(q, k, v, mask)[0], rtol=0, atol=1e-12)

    o = fovea.attention(q, k, v, "window(2)|global_tokens", global_tokens=torch.tensor([9, 30]))
    mask = (i - j).abs() <= 2
    mask[[9, 30], :] = True
    mask[:, [9, 30]] = True
    torch.testing.assert_close(o, plain_attention(q, k, v, mask)[0], rtol=0, atol=1e-12)


def test_top_left_alignment():
    q, k, v = operands(hkv=4, sq=9, sk=17, dv=8)
    o = fovea.attention(q, k, v, "causal", top_left=True)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(o, expected, rtol=0, atol=1e-12)


def test_rows_that_see_nothing():
    q, k, v = operands(b=1, sq=12, sk=5)  # bottom-right: the first 7 queries precede all keys
    o, lse = fovea.attention(q, k, v, "causal", return_lse=True)
    assert (o[:, :, :7] == 0).all() and (lse[:, :, :7] == -math.inf).all()
    d_q, d_k, d_v = torch.autograd.grad(o.sum(), (q, k, v))
    assert (d_q[:, :, :7] == 0).all()
    assert all(x.isfinite().all() for x in (d_q, d_k, d_v))


@pytest.mark.parametrize("sq, sk, b", [(0, 5, 2), (5, 0, 2), (5, 5, 0)])
def test_empty(sq, sk, b):
    q, k, v = operands(b=b, sq=sq, sk=sk)
    o, lse = fovea.attention(q, k, v, return_lse=True)
    assert (o == 0).all() and (lse == -math.inf).all()
    grads = torch.autograd.grad(o.sum(), (q, k, v))
    assert all((g == 0).all() for g in grads)


def test_layout_joins_heads_for_free():
    q, k, v = operands(grad=False)
    o = fovea.attention(q, k, v)
    assert o.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("make", [
    lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    lambda x: torch.stack([x, x], -2)[..., 0, :],
])
def test_strides(make):
    q, k, v = operands(grad=False)
    assert torch.equal(fovea.attention(make(q), make(k), make(v)), fovea.attention(q, k, v))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_makes_no_copies_in_another_type(dtype):
    """Rows are widened a tile at a time: what torch sees of a call allocates results only."""
    leaves = [x.detach().to(dtype).requires_grad_() for x in operands()]
    bias = torch.randn(4, 19, 23).to(dtype)
    q, k, v, cu = packed_operands([3, 9], dtype=dtype, grad=False)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, record_shapes=True) as profile:
        o = fovea.attention(*leaves, bias=bias)
        torch.autograd.grad(o, leaves, torch.ones_like(o))
        fovea.attention_varlen(q, k, v, cu, cu)
        fovea.linear_attention(leaves[0], leaves[0], leaves[0])
    names = {event.name for event in profile.events()}
    assert {"fovea::attention", "fovea::attention_backward", "fovea::linear_attention"} <= names
    copies = [e.input_shapes[0] for e in profile.events() if e.name in ("aten::_to_copy", "aten::copy_")]
    assert all(math.prod(shape) == 0 for shape in copies)


def test_float16_is_float32_rounded_once():
    q, k, v = [x.detach().half() for x in operands()]
    o, lse = fovea.attention(q, k, v, return_lse=True)
    assert o.dtype == torch.float16 and lse.dtype == torch.float32
    assert torch.equal(o, fovea.attention(q.float(), k.float(), v.float()).half())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    q, k, v = operands(dtype=torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        o, lse = fovea.attention(q, k, v, return_lse=True)
        theirs = F.scaled_dot_product_attention(q, q, q)
    assert o.dtype == theirs.dtype == dtype and lse.dtype == torch.float32
    assert torch.equal(o, fovea.attention(*(x.to(dtype) for x in (q, k, v))))
    assert torch.autograd.grad(o.float().sum(), q)[0].dtype == torch.float32


def test_dropout_keeps_the_mean_and_follows_its_seed():
    q, k, v = operands(sq=64, sk=64, dtype=torch.float32)
    drop = lambda seed: fovea.attention(q, k, v, dropout_p=0.5, dropout_seed=seed)
    assert torch.equal(drop(1), drop(1)) and not torch.equal(drop(1), drop(2))
    mean = torch.stack([drop(seed) for seed in range(200)]).mean(0)
    o = fovea.attention(q, k, v)
    # Deviation of a dropped weight is at most the weight; the mean of 200 is 14 times closer.
    assert (mean - o).abs().mean() < 3 * o.std() / math.sqrt(200)


def test_same_bits_for_any_number_of_threads():
    q, k, v = operands(sq=300, sk=300, dtype=torch.float32)
    d_o = torch.randn(2, 4, 300, 16)
    runs, threads = [], torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            o = fovea.attention(q, k, v, "window(40)|global(1)", dropout_p=0.1, dropout_seed=1)
            runs.append((o, *torch.autograd.grad(o, (q, k, v), d_o)))
    finally:
        torch.set_num_threads(threads)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], run))


def test_double_backward_of_joined_projections_says_so():
    qkv = torch.randn(7, 4, 8, requires_grad=True)
    o, _ = torch.ops.fovea.attention_qkv(qkv, 2, torch.tensor([0, 3, 7]))
    (d_qkv,) = torch.autograd.grad(o.sum(), qkv, create_graph=True)
    with pytest.raises(NotImplementedError, match="attention_qkv is differentiable once"):
        d_qkv.sum().backward()


@pytest.mark.parametrize("call, message", [
    (lambda q, k, v: fovea.attention(q[0], k, v), "4-dimensional"),
    (lambda q, k, v: fovea.attention(q, k[:, :, :-1], v), "same heads and length"),
    (lambda q, k, v: fovea.attention(q[:, :3], k, v), "multiple of the key heads"),
    (lambda q, k, v: fovea.attention(q[..., :4], k[..., :4], v), "multiple of 8"),
    (lambda q, k, v: fovea.attention(q, k.float(), v), "one type"),
    (lambda q, k, v: fovea.attention(q.int(), k.int(), v.int()), "float32"),
    (lambda q, k, v: fovea.attention(q, k, v, "windw(3)"), 'did you mean "window"'),
    (lambda q, k, v: fovea.attention(q, k, v, "window(-3)"), "window"),
    (lambda q, k, v: fovea.attention(q, k, v, "key_lengths"), "key_lengths"),
    (lambda q, k, v: fovea.attention(q, k, v, dropout_p=1.0), r"\[0, 1\)"),
    (lambda q, k, v: fovea.attention(q, k, v, scale=0.0), "scale"),
    (lambda q, k, v: fovea.attention_varlen(q[0], q[0], q[0], torch.tensor([0, 3]),
                                            torch.tensor([0, 4])), "cu_seqlens"),
    (lambda q, k, v: fovea.attention_varlen(q[0], q[0], q[0], torch.tensor([0.0, 4]),
                                            torch.tensor([0, 4])), "int32 or int64"),
    (lambda q, k, v: torch.ops.fovea.attention_qkv(q[0], 4, torch.tensor([0, 4])), "kv_heads"),
])
def test_errors(call, message):
    q, k, v = operands()
    with pytest.raises(RuntimeError, match=message):
        call(q, k, v)
