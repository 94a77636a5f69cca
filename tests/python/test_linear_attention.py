"""Linear attention against its quadratic formula, gradcheck, opcheck, autocast and compile."""


import pytest
import torch
import torch.nn.functional as F

import fovea

OPS = torch.ops.fovea
MAPS = {"identity": lambda x: x, "elu+1": lambda x: F.elu(x) + 1, "relu": F.relu}


def operands(b=2, h=3, sq=19, sk=None, d=8, dv=16, dtype=torch.float64, grad=True):
    make = lambda *shape: torch.randn(*shape, dtype=dtype).requires_grad_(grad)
    sk = sq if sk is None else sk
    return make(b, h, sq, d), make(b, h, sk, d), make(b, h, sk, dv)


def plain(q, k, v, feature_map, causal, normalise, decay=None, scale=1.0, eps=1e-6):
    """The attention matrix of the definition, in torch operations."""
    a = MAPS[feature_map](q) @ MAPS[feature_map](k).transpose(-1, -2)
    if decay is not None:
        total = decay.cumsum(-1)
        difference = total[..., :, None] - total[..., None, :]
        a = a * difference.masked_fill(difference > 0, 0).exp()
    if causal:
        a = a.tril()
    if normalise:
        return (a @ v) / (a.sum(-1, keepdim=True) + eps)
    return scale * (a @ v)


@pytest.mark.parametrize("feature_map", MAPS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
def test_definition_forward_and_backward(feature_map, causal, normalise):
    q, k, v = operands(sq=70, sk=70 if causal else 81)
    if normalise and feature_map == "identity":  # or denominators pass through 0
        q, k = (x.detach().abs().requires_grad_() for x in (q, k))
    o = fovea.linear_attention(
        q, k, v, causal=causal, feature_map=feature_map, normalise=normalise
    )
    expected = plain(q, k, v, feature_map, causal, normalise)
    torch.testing.assert_close(o, expected, rtol=1e-11, atol=1e-11)
    assert o.transpose(1, 2).is_contiguous()
    d_o = torch.randn_like(o)
    ours = torch.autograd.grad(o, (q, k, v), d_o)
    theirs = torch.autograd.grad(expected, (q, k, v), d_o)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("normalise", [False, True])
def test_decay_of_a_head_and_of_a_step(normalise):
    q, k, v = operands(sq=50)
    for decay in (-torch.rand(3).double(), -torch.rand(2, 3, 50).double()):
        decay.requires_grad_()
        o = fovea.linear_attention(q, k, v, causal=True, decay=decay, normalise=normalise)
        full = decay if decay.dim() == 3 else decay[:, None].expand(2, 3, 50)
        expected = plain(q, k, v, "elu+1", True, normalise, full)
        torch.testing.assert_close(o, expected, rtol=1e-11, atol=1e-11)
        d_o = torch.randn_like(o)
        ours = torch.autograd.grad(o, (q, k, v, decay), d_o)
        theirs = torch.autograd.grad(expected, (q, k, v, decay), d_o)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_gradcheck(normalise, packed):
    decay = (-torch.rand(1, 2, 7)).double()
    state = torch.rand(3 if packed else 1, 2, 8, 8 + normalise).double().requires_grad_()
    q, k, v = operands(b=1, h=2, sq=7, dv=8)
    offsets = None
    if packed:
        q, k, v, decay = (x.detach()[0].transpose(0, 1).contiguous() for x in (q, k, v, decay))
        offsets = torch.tensor([0, 3, 4, 7], dtype=torch.int32)
    f = lambda q, k, v, decay, state: fovea.linear_attention(
        q, k, v, causal=True, normalise=normalise, decay=decay, initial_state=state,
        cu_seqlens=offsets, scale=1.0 if normalise else 0.7, return_state=True,
    )
    inputs = [x.detach().requires_grad_() for x in (q, k, v, decay, state)]
    assert torch.autograd.gradcheck(f, inputs)


def delta(q, k, v, beta, decay=None, scale=1.0):
    """The recurrence of delta writes, step by step."""
    state = torch.zeros(*q.shape[:2], q.shape[-1], v.shape[-1], dtype=q.dtype)
    rows = []
    for t in range(q.shape[2]):
        if decay is not None:
            state = state * decay[:, :, t, None, None].exp()
        error = v[:, :, t] - (k[:, :, t, None] @ state)[:, :, 0]
        state = state + beta[:, :, t, None, None] * k[:, :, t, :, None] * error[:, :, None]
        rows.append(scale * (q[:, :, t, None] @ state)[:, :, 0])
    return torch.stack(rows, 2), state


@pytest.mark.parametrize("gated", [False, True])
def test_delta_writes(gated):
    q, k, v = operands(sq=50)
    k = F.normalize(k.detach(), dim=-1).requires_grad_()
    beta = torch.rand(2, 3, 50).double().requires_grad_()
    decay = (-torch.rand(2, 3, 50)).double().requires_grad_() if gated else None
    ours = fovea.linear_attention(
        q, k, v, causal=True, normalise=False, feature_map="identity", beta=beta, decay=decay,
        scale=0.5, return_state=True,
    )
    theirs = delta(q, k, v, beta, decay, scale=0.5)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    inputs = [q, k, v, beta] + ([decay] if gated else [])
    weights = [torch.randn_like(x) for x in theirs]
    ours = torch.autograd.grad(ours, inputs, weights)
    theirs = torch.autograd.grad(theirs, inputs, weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_decay_of_a_channel():
    q, k, v = operands(sq=40)
    decay = (-torch.rand(2, 3, 40, 8)).double().requires_grad_()
    options = {"causal": True, "normalise": False, "feature_map": "identity"}
    ours = fovea.linear_attention(q, k, v, decay=decay, **options)
    total = decay.cumsum(2)
    difference = (total[:, :, :, None] - total[:, :, None]).clamp(max=0)
    a = torch.einsum("bhid,bhjd,bhijd->bhij", q, k, difference.exp()).tril()
    theirs = a @ v
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    d_o = torch.randn_like(ours)
    ours = torch.autograd.grad(ours, (q, k, v, decay), d_o)
    theirs = torch.autograd.grad(theirs, (q, k, v, decay), d_o)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    packed = [x.detach()[:1].transpose(1, 2)[0] for x in (q, k, v, decay)]
    alone = fovea.linear_attention(
        *packed[:3], decay=packed[3], cu_seqlens=torch.tensor([0, 40]), **options
    )
    whole = fovea.linear_attention(
        *(x.detach()[:1] for x in (q, k, v)), decay=decay.detach()[:1], **options
    )
    torch.testing.assert_close(alone, whole[0].transpose(0, 1), rtol=0, atol=0)


@pytest.mark.parametrize("delta_writes", [False, True])
@pytest.mark.parametrize("by_channel", [False, True])
def test_steps_are_the_whole(delta_writes, by_channel):
    q, k, v = operands(sq=30, grad=False)
    k = F.normalize(k, dim=-1)
    options = {"feature_map": "identity" if delta_writes else "elu+1"}
    options["normalise"] = not delta_writes
    beta = torch.rand(2, 3, 30).double() if delta_writes else None
    decay = (-torch.rand(2, 3, 30, 8) if by_channel else -torch.rand(2, 3, 30)).double()
    whole, last = fovea.linear_attention(
        q, k, v, causal=True, beta=beta, decay=decay, return_state=True, **options
    )
    state = torch.zeros_like(last)
    for t in range(30):
        o, state = fovea.linear_attention_step(
            q[:, :, t], k[:, :, t], v[:, :, t], state, decay=decay[:, :, t],
            beta=None if beta is None else beta[:, :, t], **options,
        )
        torch.testing.assert_close(o, whole[:, :, t], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(state, last, rtol=1e-11, atol=1e-11)
    arguments = (q[:, :, 0], k[:, :, 0], v[:, :, 0], last)
    common = {"decay": decay[:, :, 0], **options}
    torch.library.opcheck(OPS.linear_attention_step, arguments, common)


def test_packed_is_separate_and_states_carry_on():
    q, k, v = operands(b=1, sq=12)
    packed = [x[0].transpose(0, 1) for x in (q, k, v)]
    offsets = torch.tensor([0, 5, 12], dtype=torch.int32)
    o, states = fovea.linear_attention(
        *packed, causal=True, cu_seqlens=offsets, return_state=True
    )
    for n, (begin, end) in enumerate([(0, 5), (5, 12)]):
        part = [x[:, :, begin:end] for x in (q, k, v)]
        alone, state = fovea.linear_attention(*part, causal=True, return_state=True)
        torch.testing.assert_close(o[begin:end], alone[0].transpose(0, 1), rtol=0, atol=0)
        torch.testing.assert_close(states[n], state[0], rtol=0, atol=0)
    whole, last = fovea.linear_attention(q, k, v, causal=True, return_state=True)
    state = None
    for t in range(12):  # as a decoder does
        step = [x[:, :, t : t + 1] for x in (q, k, v)]
        one, state = fovea.linear_attention(
            *step, causal=True, initial_state=state, return_state=True
        )
        torch.testing.assert_close(one, whole[:, :, t : t + 1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_worse_than_twice_the_formula_in_the_same_type(dtype):
    low = [x.detach().to(dtype).requires_grad_() for x in operands(sq=200, d=64, dv=64)]
    exact = [x.detach().double().requires_grad_() for x in low]
    runs = [
        (fovea.linear_attention(*low, causal=True), low),
        (plain(*low, "elu+1", True, True), low),
        (plain(*exact, "elu+1", True, True), exact),
    ]
    d_o = torch.randn_like(runs[0][0])
    results = [(o, *torch.autograd.grad(o, x, d_o.to(o.dtype))) for o, x in runs]
    for mine, theirs, truth in zip(*results):
        assert mine.dtype == dtype
        error = lambda x: (x.double() - truth).norm()
        assert error(mine) <= 2 * error(theirs)


def test_float16_and_strided_rows():
    q, k, v = operands(dtype=torch.float16, grad=False)
    o = fovea.linear_attention(q, k, v)
    assert o.dtype == torch.float16
    wide = fovea.linear_attention(q.float(), k.float(), v.float())
    torch.testing.assert_close(o, wide.half(), rtol=0, atol=0)
    turned = q.float().transpose(-1, -2).contiguous().transpose(-1, -2)  # last stride is not 1
    again = fovea.linear_attention(turned, k.float(), v.float())
    torch.testing.assert_close(again, wide, rtol=0, atol=0)


def test_autocast_uses_the_lower_type():
    q, k, v = operands(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        o, state = fovea.linear_attention(q, k, v, causal=True, return_state=True)
    assert o.dtype == torch.bfloat16 and state.dtype == torch.float32
    o.float().sum().backward()
    assert q.grad.dtype == torch.float32


def test_opcheck():
    q, k, v = operands(sq=9)
    decay = (-torch.rand(2, 3, 9)).double().requires_grad_()
    state = torch.rand(2, 3, 8, 17).double().requires_grad_()
    torch.library.opcheck(OPS.linear_attention, (q, k, v))
    torch.library.opcheck(
        OPS.linear_attention,
        (q, k, v),
        {"decay": decay, "initial_state": state, "causal": True},
    )
    beta = torch.rand(2, 3, 9).double().requires_grad_()
    torch.library.opcheck(
        OPS.linear_attention,
        (q, k, v),
        {"decay": decay, "beta": beta, "causal": True, "normalise": False},
    )
    q, k, v, decay, state = (x.detach() for x in (q, k, v, decay, state))
    common = {"decay": decay, "initial_state": state, "causal": True}
    o, denominator, final = OPS.linear_attention(q, k, v, **common)
    arguments = (torch.randn_like(o), torch.randn_like(final), q, k, v, o, denominator)
    torch.library.opcheck(OPS.linear_attention_backward, arguments, common)
    packed = [x[0].transpose(0, 1).contiguous() for x in (q, k, v)]
    offsets = torch.tensor([0, 4, 9], dtype=torch.int32)
    offsets = {"cu_seqlens_q": offsets, "cu_seqlens_k": offsets, "normalise": False}
    torch.library.opcheck(OPS.linear_attention, tuple(packed), offsets)


def test_compile_fullgraph():
    def loss(q, k, v, decay):
        o, state = fovea.linear_attention(
            q * 2, k, v, causal=True, decay=decay, return_state=True
        )
        return o.tanh().sum() + state.sum()

    q, k, v = operands(dtype=torch.float32)
    decay = (-torch.rand(3)).requires_grad_()
    expected = torch.autograd.grad(loss(q, k, v, decay), (q, k, v, decay))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    actual = torch.autograd.grad(compiled(q, k, v, decay), (q, k, v, decay))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"feature_map": "exp"}, "expected feature_map identity, elu\\+1 or relu"),
        ({"scale": 2.0}, "a scale of 1 with the normaliser"),
        ({"decay": torch.zeros(2, 3, 19).double()}, "no decay unless causal"),
        ({"beta": torch.zeros(2, 3, 19).double()}, "no delta writes unless causal"),
        ({"initial_state": torch.zeros(2, 3, 8, 16).double()}, "Dv \\+ 1"),
        ({"cu_seqlens": torch.tensor([0, 19])}, "3-dimensional tensors with cu_seqlens"),
    ],
)
def test_errors_say_what_was_expected(change, message):
    with pytest.raises(RuntimeError, match=message):
        fovea.linear_attention(*operands(grad=False), **change)
