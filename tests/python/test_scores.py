"""Score modifications: bias, distances, ALiBi, soft-cap, sinks, with every gradient."""

import math

import pytest
import torch
import torch.nn.functional as F
from cases import PATTERNS, mask_of, operands, packed_operands

import fovea

OPS = torch.ops.fovea


def distances(sq, sk):
    """Key position minus query position, queries at the keys' end."""
    return torch.arange(sk)[None, :] - (torch.arange(sq)[:, None] + (sk - sq))


def plain(q, k, v, mask, *, softcap=0.0, bias=None, distance_bias=None, alibi_slopes=None,
          sinks=None, scale=None, cosine=False, additive=None, negative_slope=1.0):
    """The definition in torch operations: (o, lse)."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    if cosine:
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    s = q @ k.transpose(-1, -2)
    s = s / math.sqrt(q.shape[-1]) if scale is None else s * scale.reshape(-1, 1, 1)
    if additive is not None:
        s = torch.einsum("hd,bhijd->bhij", additive.expand(q.shape[1], -1),
                         (q[:, :, :, None] + k[:, :, None]).tanh())
    s = torch.where(s < 0, negative_slope * s, s)
    if softcap > 0:
        s = softcap * (s / softcap).tanh()
    if bias is not None:
        s = s + bias
    distance = distances(q.shape[2], k.shape[2])
    if distance_bias is not None:
        m = distance_bias.shape[-1] // 2
        s = s + distance_bias[:, distance.clamp(-m, m) + m]
    if alibi_slopes is not None:
        s = s - alibi_slopes[:, None, None] * distance.abs()
    s = s.masked_fill(~mask, -math.inf)
    lse = s.logsumexp(-1)
    if sinks is not None:
        with_sink = torch.logaddexp(lse, sinks[:, None].expand(lse.shape))
        lse = torch.where(lse == -math.inf, lse, with_sink)
    weights = (s - lse[..., None]).exp().nan_to_num(0.0)
    return weights @ v, lse


def make(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype).requires_grad_()


def modifications(name, b, h, sq, sk):
    return {
        "softcap": lambda: dict(softcap=1.5),
        "alibi": lambda: dict(alibi_slopes=torch.rand(h).double()),
        "sinks": lambda: dict(sinks=make(h)),
        "bias": lambda: dict(bias=make(b, h, sq, sk)),
        "bias of heads": lambda: dict(bias=make(h, sq, sk)),
        "bias of batch": lambda: dict(bias=make(b, 1, sq, sk)),
        "bias of all": lambda: dict(bias=make(sq, sk)),
        "bias of keys": lambda: dict(bias=make(b, 1, 1, sk)),
        "distances": lambda: dict(distance_bias=make(h, 2 * 9 + 1)),
        "shared distances": lambda: dict(distance_bias=make(1, 2 * 90 + 1)),
        "scales": lambda: dict(scale=make(h)),
        "cosine": lambda: dict(cosine=True, scale=torch.tensor(4.0).double().requires_grad_()),
        "cosine of heads": lambda: dict(cosine=True, scale=make(h)),
        "leaky": lambda: dict(negative_slope=0.2),
        "additive": lambda: dict(additive=make(h, 8)),
        "additive, everything": lambda: dict(additive=make(1, 8), negative_slope=0.1, softcap=2.0, sinks=make(h),
                                             bias=make(1, h, sq, sk), distance_bias=make(h, 21)),
        "everything": lambda: dict(softcap=2.0, negative_slope=0.3, cosine=True, scale=make(h), alibi_slopes=torch.rand(h).double(), sinks=make(h),
                                   bias=make(1, h, sq, sk), distance_bias=make(h, 21)),
    }[name]()


NAMES = ["scales", "cosine", "cosine of heads", "softcap", "alibi", "sinks", "bias", "bias of heads", "bias of batch", "bias of all",
         "bias of keys", "distances", "shared distances", "leaky", "additive", "additive, everything", "everything"]


def of_operator(mod):
    """Python's names to the operator's."""
    return {"scales" if name == "scale" else name: x for name, x in mod.items()}


def differentiable(mod):
    return [x for x in mod.values() if isinstance(x, torch.Tensor) and x.requires_grad]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pattern", ["full", "causal", "window(4)|global(2)"])
def test_definition_forward_and_backward(name, pattern):
    q, k, v = operands(sq=70, sk=81)
    mod = modifications(name, 2, 4, 70, 81)
    d_o, d_lse = torch.randn(2, 4, 70, 16).double(), torch.randn(2, 4, 70).double()
    ours = fovea.attention(q, k, v, pattern, return_lse=True, **mod)
    theirs = plain(q, k, v, mask_of(pattern, 70, 81), **mod)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    inputs = (q, k, v, *differentiable(mod))
    torch.testing.assert_close(torch.autograd.grad(ours, inputs, (d_o, d_lse)),
                               torch.autograd.grad(theirs, inputs, (d_o, d_lse)),
                               rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name):
    q, k, v = operands(b=2, sq=4, sk=5, d=8, dv=8, hq=2, hkv=1)
    mod = modifications(name, 2, 2, 4, 5)
    names = [n for n, x in mod.items() if isinstance(x, torch.Tensor) and x.requires_grad]

    def f(q, k, v, *tensors):
        given = {**mod, **dict(zip(names, tensors))}
        return fovea.attention(q, k, v, "window(2,1)", dropout_p=0.2, dropout_seed=3,
                               return_lse=True, **given)

    assert torch.autograd.gradcheck(f, (q, k, v, *differentiable(mod)))


@pytest.mark.parametrize("name", ["cosine of heads", "softcap", "alibi", "sinks", "distances"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_packed_is_separate(name, pattern):
    lengths = [70, 1, 129, 3]
    q, k, v, offsets = packed_operands(lengths)
    mod = modifications(name, 1, 4, 0, 0)
    d_o = torch.randn_like(q)
    o, lse = fovea.attention_varlen(q, k, v, offsets, offsets, pattern, return_lse=True, **mod)
    whole = torch.autograd.grad(o, (q, k, v, *differentiable(mod)), d_o)
    sums = [torch.zeros_like(x) for x in whole[3:]]
    for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist()):
        part = [x[begin:end].detach().transpose(0, 1)[None].requires_grad_() for x in (q, k, v)]
        o_alone, lse_alone = fovea.attention(*part, pattern, return_lse=True, **mod)
        torch.testing.assert_close(o[begin:end], o_alone[0].transpose(0, 1), rtol=0, atol=1e-13)
        torch.testing.assert_close(lse[:, begin:end], lse_alone[0], rtol=0, atol=1e-13)
        alone = torch.autograd.grad(o_alone, (*part, *differentiable(mod)),
                                    d_o[begin:end].transpose(0, 1)[None])
        for gradient, single in zip(whole, alone[:3]):
            torch.testing.assert_close(gradient[begin:end], single[0].transpose(0, 1), rtol=0,
                                       atol=1e-12)
        sums = [x + y for x, y in zip(sums, alone[3:])]
    torch.testing.assert_close(list(whole[3:]), sums, rtol=0, atol=1e-11)


def test_packed_bias_and_qkv():
    offsets = torch.tensor([0, 20, 50], dtype=torch.int32)
    qkv = make(50, 4 + 2 * 2, 8)
    mod = dict(bias=make(1, 4, 50, 50), distance_bias=make(4, 5), sinks=make(4))
    o, lse = OPS.attention_qkv(qkv, 4, offsets, "window(7)", **mod)
    q, k, v = (x.transpose(0, 1)[None] for x in qkv.split([4, 2, 2], dim=1))
    i = torch.arange(50)
    mask = ((i[:, None] - i).abs() <= 7) & ((i[:, None] < 20) == (i < 20))
    theirs = plain(q, k, v, mask, **mod)
    torch.testing.assert_close(o, theirs[0][0].transpose(0, 1), rtol=0, atol=1e-12)
    d_o = torch.randn_like(o)
    inputs = (qkv, *differentiable(mod))
    torch.testing.assert_close(
        torch.autograd.grad(o, inputs, d_o),
        torch.autograd.grad(theirs[0], inputs, d_o.transpose(0, 1)[None]), rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", [(2, 4, 33, 41), (1, 4, 33, 41), (2, 1, 33, 41), (33, 41),
                                   (2, 1, 1, 41)])
def test_bias_is_the_mask_of_sdpa(shape):
    q, k, v = operands(hkv=4, sq=33, sk=41, dv=8)
    bias = make(*shape)
    d_o = torch.randn_like(q)
    ours = fovea.attention(q, k, v, bias=bias)
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(ours, (q, k, v, bias), d_o),
                               torch.autograd.grad(theirs, (q, k, v, bias), d_o),
                               rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bias_no_worse_than_twice_torch(dtype):
    exact = [*operands(hkv=4, sq=200, sk=200, d=64, dv=64), make(1, 4, 200, 200)]
    low = [x.detach().to(dtype).requires_grad_() for x in exact]
    exact = [x.detach().double().requires_grad_() for x in low]
    d_o = torch.randn(2, 4, 200, 64, dtype=dtype)
    sdpa = lambda q, k, v, bias: F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    results = []
    for f, inputs in ((lambda q, k, v, bias: fovea.attention(q, k, v, bias=bias), low),
                      (sdpa, low), (sdpa, exact)):
        o = f(*inputs)
        results.append([o, *torch.autograd.grad(o, inputs, d_o.to(o.dtype))])
    for mine, theirs, truth in zip(*results):
        assert mine.dtype == dtype
        assert (mine.double() - truth).norm() <= 2 * (theirs.double() - truth).norm()


def test_minus_infinity_bias_hides_like_a_pattern():
    q, k, v = operands(sq=12, sk=5)  # the first 7 queries see nothing
    bias = torch.zeros(12, 5).double().masked_fill(~mask_of("causal", 12, 5), -math.inf)
    d_o = torch.randn(2, 4, 12, 16).double()
    for mod in ({}, dict(sinks=torch.randn(4).double())):
        by_bias = fovea.attention(q, k, v, bias=bias, return_lse=True, **mod)
        by_pattern = fovea.attention(q, k, v, "causal", return_lse=True, **mod)
        torch.testing.assert_close(by_bias, by_pattern, rtol=0, atol=1e-13)
        torch.testing.assert_close(torch.autograd.grad(by_bias[0], (q, k, v), d_o),
                                   torch.autograd.grad(by_pattern[0], (q, k, v), d_o),
                                   rtol=0, atol=1e-12)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("max_distance", [20, 128])
def test_t5_buckets(bidirectional, max_distance):
    weight = make(32, 4)
    q, k, v = operands(sq=150, sk=170)

    # The published definition, over a dense matrix of relative positions.
    relative, buckets, offset = distances(150, 170), 32, 0
    if bidirectional:
        buckets //= 2
        offset = (relative > 0).long() * buckets
        relative = relative.abs()
    else:
        relative = -relative.clamp(max=0)
    exact = buckets // 2
    large = exact + (torch.log(relative.float() / exact) / math.log(max_distance / exact)
                     * (buckets - exact)).long()
    bucket = offset + torch.where(relative < exact, relative, large.clamp(max=buckets - 1))
    dense = weight[bucket].permute(2, 0, 1)[None]

    by_distance = fovea.t5_distance_bias(weight, bidirectional=bidirectional,
                                         max_distance=max_distance)
    assert by_distance.shape == (4, 2 * max_distance + 1)
    pattern = "full" if bidirectional else "causal"
    ours = fovea.attention(q, k, v, pattern, distance_bias=by_distance)
    theirs = fovea.attention(q, k, v, pattern, bias=dense)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    d_o = torch.randn_like(ours)
    torch.testing.assert_close(torch.autograd.grad(ours, weight, d_o),
                               torch.autograd.grad(theirs, weight, d_o), rtol=0, atol=1e-11)


def test_same_bits_for_any_number_of_threads():
    q, k, v = operands(sq=300, sk=300, dtype=torch.float32)
    d_o = torch.randn(2, 4, 300, 16)
    mods = [dict(bias=make(4, 300, 300, dtype=torch.float32), sinks=make(4, dtype=torch.float32)),
            dict(bias=make(300, 300, dtype=torch.float32),
                 distance_bias=make(4, 41, dtype=torch.float32)),
            dict(bias=make(1, 1, 300, dtype=torch.float32), softcap=2.0)]
    for mod in mods:
        runs, threads = [], torch.get_num_threads()
        try:
            for n in (1, 2, 3, 1, 3):
                torch.set_num_threads(n)
                o = fovea.attention(q, k, v, "window(90)|global(1)", **mod)
                runs.append((o, *torch.autograd.grad(o, (q, k, v, *differentiable(mod)), d_o)))
        finally:
            torch.set_num_threads(threads)
        for run in runs[1:]:
            assert all(torch.equal(a, b) for a, b in zip(runs[0], run))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_types_of_modifications(dtype):
    q, k, v = [x.detach().to(dtype).requires_grad_() for x in operands(sq=70, sk=70)]
    for mod_type in (torch.float32, dtype, torch.float64):
        mod = dict(bias=make(70, 70, dtype=mod_type), sinks=make(4, dtype=mod_type),
                   distance_bias=make(4, 9, dtype=mod_type))
        o = fovea.attention(q, k, v, **mod)
        assert o.dtype == dtype
        exact = plain(*(x.double() for x in (q, k, v)), mask_of("full", 70, 70),
                      **{n: x.double() for n, x in mod.items()})[0]
        assert (o.double() - exact).abs().max() < 2 * torch.finfo(dtype).eps * exact.abs().max()
        gradients = torch.autograd.grad(o.float().sum(), differentiable(mod))
        assert [x.dtype for x in gradients] == [mod_type] * 3
        assert [x.shape for x in gradients] == [x.shape for x in mod.values()]


def test_autocast_keeps_the_bias():
    q, k, v = operands(dtype=torch.float32)
    bias = make(19, 23, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        o = fovea.attention(q, k, v, bias=bias)
    assert torch.equal(o, fovea.attention(*(x.bfloat16() for x in (q, k, v)), bias=bias))
    assert torch.autograd.grad(o.float().sum(), bias)[0].dtype == torch.float32


@pytest.mark.parametrize("name", ["nothing", "cosine of heads", "sinks", "everything"])
@pytest.mark.parametrize("pattern", ["full", "causal", "window(4)|global(2)"])
def test_statistics(name, pattern):
    q, k, _ = operands(sq=70, sk=81)
    mod = {} if name == "nothing" else modifications(name, 2, 4, 70, 81)
    unit = torch.eye(81, dtype=torch.float64).expand(2, 2, 81, 81)
    weights, lse = plain(q, k, unit, mask_of(pattern, 70, 81), **mod)
    entropy, mass = fovea.attention_statistics(q, k, lse, pattern, **mod)
    expected = -torch.special.xlogy(weights, weights).sum(-1)
    torch.testing.assert_close((entropy, mass), (expected, weights.sum(-2)), rtol=0, atol=1e-11)
    assert not entropy.requires_grad and not mass.requires_grad


def test_statistics_of_types_and_empty_rows():
    q, k, v = [x.detach().bfloat16() for x in operands(sq=12, sk=5)]
    o, lse = fovea.attention(q, k, v, "causal", return_lse=True)
    entropy, mass = fovea.attention_statistics(q, k, lse, "causal")
    assert entropy.dtype == mass.dtype == torch.float32
    assert (entropy[:, :, :7] == 0).all()
    assert (mass.sum(-1) - 5).abs().max() < 1e-4  # each row that sees something gives 1
    torch.library.opcheck(OPS.attention_statistics, (q, k, lse, "causal"))


def test_cosine_of_a_zero_vector():
    q, k, v = operands()
    with torch.no_grad():
        q[0, 1, 3] = 0
        k[1, 0, 5] = 0
    mod = dict(cosine=True, scale=make(4))
    ours = fovea.attention(q, k, v, return_lse=True, **mod)
    assert (ours[0] - plain(q, k, v, mask_of("full", 19, 23), **mod)[0]).abs().max() < 1e-12
    gradients = torch.autograd.grad(ours[0].sum(), (q, k, v, mod["scale"]))
    assert all(x.isfinite().all() for x in gradients)


def test_only_modifications_need_gradients():
    q, k, v = operands(grad=False)
    mod = modifications("everything", 2, 4, 19, 23)
    gradients = torch.autograd.grad(fovea.attention(q, k, v, **mod).sum(), differentiable(mod))
    assert all(x.isfinite().all() and x.abs().sum() > 0 for x in gradients)


@pytest.mark.parametrize("sq, sk, b", [(0, 5, 2), (5, 0, 2), (5, 5, 0)])
def test_empty(sq, sk, b):
    q, k, v = operands(b=b, sq=sq, sk=sk)
    mod = modifications("everything", b, 4, sq, sk)
    o, lse = fovea.attention(q, k, v, return_lse=True, **mod)
    assert (o == 0).all() and (lse == -math.inf).all()
    gradients = torch.autograd.grad(o.sum(), (q, k, v, *differentiable(mod)))
    assert all((g == 0).all() for g in gradients)


@pytest.mark.parametrize("name", ["cosine of heads", "sinks", "bias of heads", "distances", "everything"])
def test_opcheck(name):
    q, k, v = operands(sq=9, sk=11, dv=8)
    torch.library.opcheck(OPS.attention, (q, k, v, "causal"),
                          of_operator(modifications(name, 2, 4, 9, 11)))
    q, k, v = (x.detach() for x in (q, k, v))
    mod = {n: x.detach() if isinstance(x, torch.Tensor) else x
           for n, x in of_operator(modifications(name, 2, 4, 9, 11)).items()}
    o, lse = OPS.attention(q, k, v, **mod)
    arguments = (torch.randn_like(o), None, q, k, v, o, lse)
    torch.library.opcheck(OPS.attention_backward, arguments, {**mod, "bias_gradient": True})


def test_opcheck_packed():
    q, k, v, offsets = packed_operands([3, 4])
    mod = of_operator(modifications("everything", 1, 4, 7, 7))
    torch.library.opcheck(OPS.attention_varlen, (q, k, v, offsets, offsets, "causal"), mod)
    qkv = make(7, 8, 8)
    torch.library.opcheck(OPS.attention_qkv, (qkv, 4, offsets, "causal"), mod)


def test_compile_fullgraph():
    def loss(q, k, v, weight, sinks):
        table = fovea.t5_distance_bias(weight, max_distance=16)
        return fovea.attention(q, k, v, "window(4)", distance_bias=table, sinks=sinks,
                               softcap=5.0).square().sum()

    q, k, v = operands(sq=9, sk=11, dtype=torch.float32)
    inputs = (q, k, v, make(8, 4, dtype=torch.float32), make(4, dtype=torch.float32))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(*inputs), inputs),
                               torch.autograd.grad(loss(*inputs), inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mod, message", [
    (dict(bias=torch.zeros(3, 19, 23)), r"bias \[1 or 2, 1 or 4, 1 or 19, 23\]"),
    (dict(bias=torch.zeros(19, 1)), "bias"),
    (dict(bias=torch.zeros(19, 23, dtype=torch.bool)), "floating-point"),
    (dict(distance_bias=torch.zeros(4, 6)), "odd number of distances"),
    (dict(distance_bias=torch.zeros(3, 5)), "distance_bias"),
    (dict(sinks=torch.zeros(3)), "sinks of 4 heads, got 3"),
    (dict(alibi_slopes=torch.zeros(4, 1)), "alibi_slopes"),
    (dict(alibi_slopes=torch.zeros(4, requires_grad=True)), "have no gradient"),
    (dict(softcap=-1.0), "softcap"),
    (dict(scale=torch.ones(3)), "scales of 4 heads, got 3"),
])
def test_errors(mod, message):
    q, k, v = operands()
    with pytest.raises(RuntimeError, match=message):
        fovea.attention(q, k, v, **mod)
