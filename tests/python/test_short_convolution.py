"""The short causal convolution against torch's conv1d, with packed documents and a state."""

import pytest
import torch
import torch.nn.functional as F

import fovea  # noqa: F401  (registers the operators)

OPS = torch.ops.fovea


def plain(x, weight, state=None):
    """One document, through torch."""
    width = weight.shape[1]
    before = torch.zeros(width - 1, x.shape[1], dtype=x.dtype) if state is None else state
    rows = torch.cat([before, x])
    return F.conv1d(rows.t()[None], weight[:, None], groups=x.shape[1])[0].t(), rows[len(x) :]


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("with_state", [False, True])
def test_is_conv1d_of_each_document(width, with_state):
    offsets = torch.tensor([0, 1, 1, 300, 303], dtype=torch.int32)
    x = torch.randn(303, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, width, dtype=torch.float64, requires_grad=True)
    state = torch.randn(4, width - 1, 5, dtype=torch.float64, requires_grad=True)
    given = state if with_state else None
    y, last = OPS.short_convolution(x, weight, offsets, given)
    parts = [
        plain(x[a:b], weight, given[n] if with_state else None)
        for n, (a, b) in enumerate(zip(offsets[:-1], offsets[1:]))
        if a < b
    ]
    expected = torch.cat([p[0] for p in parts])
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    kept = [n for n in range(4) if n != 1]
    torch.testing.assert_close(last[kept], torch.stack([p[1] for p in parts]), rtol=0, atol=0)
    inputs = [x, weight] + ([state] if with_state else [])
    d_y = torch.randn_like(y)
    ours = torch.autograd.grad(y, inputs, d_y)
    theirs = torch.autograd.grad(expected, inputs, d_y)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_steps_carry_the_state_on_and_threads_change_nothing():
    x = torch.randn(1000, 8)
    weight = torch.randn(8, 4, requires_grad=True)
    offsets = torch.tensor([0, 1000])
    whole, last = OPS.short_convolution(x, weight, offsets)
    state, one = None, torch.tensor([0, 1])
    for t in range(20):
        y, state = OPS.short_convolution(x[t : t + 1], weight, one, state)
        torch.testing.assert_close(y[0], whole[t], rtol=0, atol=0)
    torch.testing.assert_close(last[0], x[-3:], rtol=0, atol=0)
    threads = torch.get_num_threads()
    gradients = []
    try:
        for n in (1, 4):
            torch.set_num_threads(n)
            gradients += torch.autograd.grad(
                OPS.short_convolution(x, weight, offsets)[0].square().sum(), weight
            )
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_storage_types(dtype):
    x, weight = torch.randn(50, 8).to(dtype), torch.randn(8, 4)
    y, _ = OPS.short_convolution(x, weight, torch.tensor([0, 50]))
    assert y.dtype == dtype
    expected = plain(x.double(), weight.double())[0]
    eps = torch.finfo(dtype).eps
    assert (y.double() - expected).abs().max() <= eps * (1 + expected.abs().max())


def test_opcheck_and_errors():
    x = torch.randn(9, 3, requires_grad=True)
    weight = torch.randn(3, 4, requires_grad=True)
    offsets = torch.tensor([0, 4, 9], dtype=torch.int32)
    state = torch.randn(2, 3, 3, requires_grad=True)
    torch.library.opcheck(OPS.short_convolution, (x, weight, offsets))
    torch.library.opcheck(OPS.short_convolution, (x, weight, offsets, state))
    x, weight, state = (t.detach() for t in (x, weight, state))
    d_y = torch.randn(9, 3)
    torch.library.opcheck(OPS.short_convolution_backward, (d_y, x, weight, offsets, state))
    with pytest.raises(RuntimeError, match="ascends from 0 to 9"):
        OPS.short_convolution(x, weight, torch.tensor([0, 8]))
    with pytest.raises(RuntimeError, match="expected weight"):
        OPS.short_convolution(x, weight.t().contiguous(), offsets)
