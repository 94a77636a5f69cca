"""Derivatives beyond the first, directional ones, and torch.func, of every kind of call."""

import pytest
import torch
from cases import operands, packed_operands
from torch.autograd import gradcheck, gradgradcheck

import fovea

OPS = torch.ops.fovea

SQ, SK = 5, 6


@pytest.fixture(autouse=True)
def one_thread():
    """Thousands of tiny operations: two threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def call(pattern="full", tensors=None, **fixed):
    """A case: q, k, v and the named tensors are differentiated."""

    def build():
        q, k, v = operands(b=2, hq=2, hkv=1, sq=SQ, sk=SK, d=8, dv=16)
        named = tensors() if tensors else {}

        def function(q, k, v, *values):
            given = dict(zip(named, values))
            o, lse = fovea.attention(q, k, v, pattern, return_lse=True, **fixed, **given)
            return o, lse.masked_fill(lse == -torch.inf, 0.0)

        return function, (q, k, v, *named.values())

    return build


def packed(**fixed):
    def build():
        q, k, v, offsets = packed_operands([3, 0, 4], hq=2, hkv=1)
        sinks = make(2)

        def function(q, k, v, sinks):
            return fovea.attention_varlen(
                q, k, v, offsets, offsets, "window(2,0)", return_lse=True, sinks=sinks, **fixed
            )

        return function, (q, k, v, sinks)

    return build


def linear(causal, normalise, with_decay=False, lengths=None, with_beta=False, channels=()):
    def build():
        h, t = 2, 5
        q, k, v = (make(1, h, t, 8) for _ in range(3))
        steps = [(-torch.rand(1, h, t, *channels)).double().requires_grad_()] if with_decay else []
        steps += [torch.rand(1, h, t).double().requires_grad_()] if with_beta else []
        state = torch.rand(3 if lengths else 1, h, 8, 8 + normalise).double().requires_grad_()
        offsets = None
        if lengths:
            q, k, v, *steps = (
                x.detach()[0].transpose(0, 1).clone().requires_grad_() for x in (q, k, v, *steps)
            )
            offsets = torch.tensor(lengths, dtype=torch.int32)

        def function(q, k, v, state, decay=None, beta=None):
            return fovea.linear_attention(
                q, k, v, causal=causal, normalise=normalise, decay=decay, beta=beta, initial_state=state,
                cu_seqlens=offsets, scale=1.0 if normalise else 0.7, return_state=True,
            )  # fmt: skip

        return function, (q, k, v, state, *steps)

    return build


CASES = {
    "full": call(),
    "causal": call("causal"),
    "rows that see nothing": call("causal&window(1,0)&chunked(4)", top_left=True),
    "window": call("window(2,1)"),
    "window|global": call("window(1)|global(1)"),
    "block_mask": call("block_mask(4)", block_mask=torch.tensor([[1, 0], [1, 1]]).bool()),
    "intervals": call("intervals", intervals=torch.tensor([[0, 2], [1, 5], [3, 3], [2, 6], [0, 6]])),
    "key_lengths": call("key_lengths", key_lengths=torch.tensor([2, 6])),
    "global_tokens": call("window(0)|global_tokens", global_tokens=torch.tensor([1, 4])),
    "per_head": call("per_head(causal,window(1))"),
    "dropout": call("causal", dropout_p=0.4, dropout_seed=3),
    "softcap": call(softcap=1.5),
    "bias": call("window(3)", lambda: dict(bias=make(1, 2, SQ, SK))),
    "bias of keys": call(tensors=lambda: dict(bias=make(2, 1, 1, SK))),
    "distance bias": call("causal", lambda: dict(distance_bias=make(2, 7))),
    "alibi": call("causal", alibi_slopes=torch.tensor([0.5, 0.25]).double()),
    "sinks": call("causal&window(1,0)&chunked(4)", lambda: dict(sinks=make(2))),
    "scales": call(tensors=lambda: dict(scale=make(2))),
    "cosine": call(tensors=lambda: dict(scale=make(2)), cosine=True),
    "everything": call(
        "window(3)|global(1)",
        lambda: dict(bias=make(SQ, SK), distance_bias=make(1, 5), sinks=make(2), scale=make(1)),
        cosine=True, softcap=2.0, dropout_p=0.3, dropout_seed=5,
    ),  # fmt: skip
    "leaky": call("causal", negative_slope=0.2),
    "additive": call("window(3)", lambda: dict(additive=make(2, 8))),
    "packed": packed(),
    "packed, everything": packed(
        softcap=2.0, alibi_slopes=torch.tensor([0.5, 0.25]).double(), dropout_p=0.2, dropout_seed=1
    ),
    "linear": linear(False, True),
    "linear causal": linear(True, False),
    "linear decay": linear(True, True, True),
    "linear packed": linear(True, True, True, [0, 2, 2, 5]),
    "linear channels packed": linear(True, True, True, [0, 2, 2, 5], channels=(8,)),
    "linear delta": linear(True, False, True, with_beta=True),
    "linear delta packed": linear(True, False, True, [0, 2, 2, 5], with_beta=True),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_first_derivatives(name):
    function, inputs = CASES[name]()
    assert gradcheck(
        function, inputs, fast_mode=True, check_forward_ad=True, check_batched_grad=True,
        check_batched_forward_grad=True,
    )  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(name):
    function, inputs = CASES[name]()
    assert gradgradcheck(function, inputs, fast_mode=True, check_fwd_over_rev=True)


def test_third_derivatives():
    function, (q, k, v) = CASES["causal"]()
    first = lambda q, k, v: torch.autograd.grad(function(q, k, v)[0].sin().sum(), q, create_graph=True)[0]
    assert gradgradcheck(first, (q, k, v), fast_mode=True)


def loss(*inputs):
    o, lse = fovea.attention(*inputs, "window(2)|global(1)", return_lse=True)
    return o.sin().sum() + lse.cos().sum()


def test_transforms_are_autograd():
    q, k, v = operands(b=1, hq=2, hkv=1, sq=SQ, sk=SK)
    t = tuple(torch.randn_like(x) for x in (q, k, v))
    every = (0, 1, 2)
    first = torch.autograd.grad(loss(q, k, v), (q, k, v), create_graph=True)
    torch.testing.assert_close(torch.func.grad(loss, every)(q, k, v), first)
    value, pull = torch.func.vjp(loss, q, k, v)
    torch.testing.assert_close(pull(torch.ones_like(value)), first)
    along = sum((d * x).sum() for d, x in zip(first, t))
    torch.testing.assert_close(torch.func.jvp(loss, (q, k, v), t)[1], along)

    # Hessian-vector products: reverse over reverse, forward over reverse, reverse over forward.
    product = torch.autograd.grad(along, (q, k, v))
    gradient = torch.func.grad(loss, every)
    torch.testing.assert_close(torch.func.vjp(gradient, q, k, v)[1](t), product)
    torch.testing.assert_close(torch.func.jvp(gradient, (q, k, v), t)[1], product)
    derivative = lambda *x: torch.func.jvp(loss, x, t)[1]
    torch.testing.assert_close(torch.func.grad(derivative, every)(q, k, v), product)


def test_hessians():
    q, k, v = operands(b=1, hq=1, hkv=1, sq=2, sk=3, dv=8, grad=False)
    of_q = lambda q: loss(q, k, v)
    by_rows = torch.autograd.functional.hessian(of_q, q)
    forward, reverse = torch.func.jacfwd, torch.func.jacrev
    for outer in (forward, reverse):
        for inner in (forward, reverse):
            torch.testing.assert_close(outer(inner(of_q))(q), by_rows)
    third = forward(reverse(reverse(of_q)))(q)
    torch.testing.assert_close(forward(forward(forward(of_q)))(q), third)


@pytest.mark.parametrize("in_dims", [(0, 0, 0), (1, None, None), (None, 3, 2), (0, -1, None)])
@pytest.mark.parametrize("name", ["window", "dropout", "sinks", "key_lengths", "bias"])
def test_vmap_is_a_loop(name, in_dims):
    function, inputs = CASES[name]()
    n = 3
    stacked = [
        x if dim is None else torch.stack([x.detach() + i for i in range(n)], dim).requires_grad_()
        for x, dim in zip(inputs, in_dims)
    ]
    slices = [
        [x if dim is None else x.select(dim, i) for x, dim in zip(stacked, in_dims)]
        for i in range(n)
    ]
    rest = inputs[3:]
    mapped = torch.func.vmap(function, (*in_dims, *(None for _ in rest)))(*stacked, *rest)
    looped = [torch.stack(x) for x in zip(*(function(*x, *rest) for x in slices))]
    torch.testing.assert_close(list(mapped), looped, rtol=0, atol=1e-13)
    d = [torch.randn_like(x) for x in looped]
    torch.testing.assert_close(torch.autograd.grad(mapped, (*stacked, *rest), d),
                               torch.autograd.grad(looped, (*stacked, *rest), d),
                               rtol=0, atol=1e-12)  # fmt: skip


def test_vmap_of_what_is_not_differentiated():
    q, k, v = operands(b=2, sq=SQ, sk=SK, grad=False)
    lengths = torch.tensor([[1, 6], [3, 2], [6, 6]])
    f = lambda lengths: fovea.attention(q, k, v, "key_lengths", key_lengths=lengths)
    torch.testing.assert_close(torch.func.vmap(f)(lengths), torch.stack([f(x) for x in lengths]))
    masks = torch.rand(3, 2, 2) < 0.6
    f = lambda mask: fovea.attention(q, k, v, "block_mask(4)", block_mask=mask)
    torch.testing.assert_close(torch.func.vmap(f)(masks), torch.stack([f(x) for x in masks]))


def test_vmap_of_packed_linear_and_merge():
    q, k, v, offsets = packed_operands([3, 4], grad=False)
    q, k, v = (torch.stack([x, -x, 2 * x]) for x in (q, k, v))
    f = lambda q, k, v: fovea.attention_varlen(q, k, v, offsets, offsets, "causal", return_lse=True)
    runs = [f(*x) for x in zip(q, k, v)]
    mapped = torch.func.vmap(f)(q, k, v)
    torch.testing.assert_close(mapped, tuple(torch.stack(x) for x in zip(*runs)))
    one = fovea.attention_merge([runs[0], runs[1]])
    pairs = torch.func.vmap(lambda *x: fovea.attention_merge([x[:2], x[2:]]))(
        *(x[None] for x in (*runs[0], *runs[1]))
    )
    torch.testing.assert_close(pairs, tuple(x[None] for x in one))
    q, k, v = operands(b=3, hq=2, sk=19, dv=8, grad=False)
    f = lambda q, k, v: fovea.linear_attention(q[None], k[None], v[None], causal=True)[0]
    whole = fovea.linear_attention(q, k, v, causal=True)
    torch.testing.assert_close(torch.func.vmap(f)(q, k, v), whole)


def test_per_sample_gradients():
    q, k, v = operands(b=3, sq=SQ, sk=SK, grad=False)
    sinks = make(4)

    def sample_loss(sinks, q, k, v):
        return fovea.attention(q[None], k[None], v[None], "causal", sinks=sinks).square().sum()

    each = torch.func.vmap(torch.func.grad(sample_loss), (None, 0, 0, 0))(sinks, q, k, v)
    looped = [torch.autograd.grad(sample_loss(sinks, *x), sinks)[0] for x in zip(q, k, v)]
    torch.testing.assert_close(each, torch.stack(looped))


def test_what_no_pair_uses_reaches_no_derivative():
    q, k, v = operands(b=1, sq=SQ, sk=SK)
    with torch.no_grad():
        k[:, :, 4:], v[:, :, 4:] = torch.nan, torch.nan
    o = fovea.attention(q, k, v, "key_lengths", key_lengths=torch.tensor([4]))
    gradients = torch.autograd.grad(o.sin().sum(), (q, k, v), create_graph=True)
    second = torch.autograd.grad(sum(x.square().sum() for x in gradients), (q, k, v))
    assert all(x.isfinite().all() for x in (*gradients, *second))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_types(dtype):
    exact = operands(b=1, sq=SQ, sk=SK)
    low = [x.detach().to(dtype).requires_grad_() for x in exact]
    results = []
    for inputs in (low, [x.detach().double().requires_grad_() for x in low]):
        (d_q,) = torch.autograd.grad(loss(*inputs), inputs[0], create_graph=True)
        results.append(torch.autograd.grad(d_q.square().sum(), inputs))
    for mine, truth in zip(*results):
        assert mine.dtype == dtype
        # Gradients of gradients in float32, from first ones that were rounded to the type.
        assert (mine.double() - truth).norm() < 30 * torch.finfo(dtype).eps * truth.norm()


def test_pattern_mask():
    from cases import PATTERNS, mask_of

    for pattern in PATTERNS:
        assert torch.equal(fovea.pattern_mask(pattern, 70, 81)[0, 0], mask_of(pattern, 70, 81))
    heads = fovea.pattern_mask("per_head(causal,window(1))", 5, heads=4)
    assert heads.shape == (1, 4, 5, 5)
    assert torch.equal(heads[0, 3], fovea.pattern_mask("window(1)", 5)[0, 0])
    lengths = fovea.pattern_mask("key_lengths&causal", 5, batch=2, key_lengths=torch.tensor([2, 5]))
    assert torch.equal(lengths[0, 0], fovea.pattern_mask("causal", 5)[0, 0] & (torch.arange(5) < 2))
    offsets = torch.tensor([0, 3, 7])
    documents = fovea.pattern_mask("full", 7, cu_seqlens_q=offsets, cu_seqlens_k=offsets)
    assert torch.equal(documents[0, 0], torch.block_diag(torch.ones(3, 3), torch.ones(4, 4)).bool())
    with pytest.raises(RuntimeError, match="key_lengths"):
        fovea.pattern_mask("key_lengths", 5)
    with pytest.raises(RuntimeError, match='did you mean "window"'):
        fovea.pattern_mask("windw(3)", 5)


def test_opcheck_of_the_masks():
    like, arguments = torch.empty(0), (2, 4, 5, 6)
    lengths = torch.tensor([2, 6])
    for pattern in ("causal", "per_head(full,causal)&key_lengths"):
        torch.library.opcheck(OPS.pattern_mask, (like, pattern, *arguments), {"key_lengths": lengths})
    torch.library.opcheck(OPS.attention_dropout_mask, (like, 0.3, 7, *arguments))


def test_dropout_mask_is_what_attention_drops():
    q, k, _ = operands(sq=9, sk=70)
    values = torch.eye(70, dtype=torch.float64).expand(2, 2, 70, 70)[..., :64]
    o = fovea.attention(q, k, values, dropout_p=0.3, dropout_seed=11)
    kept = OPS.attention_dropout_mask(torch.empty(0), 0.3, 11, 2, 4, 9, 70)
    assert torch.equal(o != 0, kept[..., :64])


def test_slopes_are_refused_under_transforms_too():
    q, k, v = operands(b=1, hq=2, hkv=1, grad=False)
    f = lambda slopes: fovea.attention(q, k, v, alibi_slopes=slopes).sum()
    with pytest.raises(NotImplementedError, match="have no gradient"):
        torch.func.grad(f)(torch.ones(2))


def test_raw_operators_do_not_lose_a_tangent():
    q, k, v = operands(b=1, grad=False)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(q, torch.ones_like(q))
        with pytest.raises(NotImplementedError, match="fovea.attention and its kin"):
            OPS.attention(dual, k, v)
        with pytest.raises(NotImplementedError, match="fovea.attention and its kin"):
            OPS.linear_attention(dual, q, q)


def test_autocast_under_transforms():
    q, k, v = operands(b=1, dtype=torch.float32, grad=False)
    f = lambda q, k, v: fovea.attention(q, k, v, "causal")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        o, tangent = torch.func.jvp(f, (q, k, v), (q, k, v))
        assert o.dtype == tangent.dtype == torch.bfloat16
        gradient = torch.func.grad(lambda q: f(q, k, v).float().sum())(q)
    assert gradient.dtype == torch.float32


def test_unknown_arguments():
    q, k, v, offsets = packed_operands([3, 4], grad=False)
    f = lambda q: fovea.attention_varlen(q, k, v, offsets, offsets, sink=torch.ones(4))
    with pytest.raises((TypeError, RuntimeError), match="sink"):
        f(q)
    with pytest.raises(TypeError, match="sink"):
        torch.func.jvp(f, (q,), (q,))


def test_compiled_code_has_the_first_gradient():
    q, k, v = operands(b=1, sq=SQ, sk=SK)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(q, k, v), (q, k, v)),
                               torch.autograd.grad(loss(q, k, v), (q, k, v)))  # fmt: skip
