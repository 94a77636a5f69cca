"""fovea::dropout and fovea::rotary against their definitions."""

import pytest
import torch

import fovea  # noqa: F401  (loads the operators)

OPS = torch.ops.fovea


def philox(counter, key):
    """Philox4x32-10 on Python integers, from the paper (Salmon et al. 2011)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def kept(i, seed, p):
    word = i // 64 % 4
    call = i // 256 * 64 + i % 64
    words = philox([call & 0xFFFFFFFF, call >> 32, 0, 0], [seed & 0xFFFFFFFF, seed >> 32])
    return words[word] >= int(p * 2**32)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.75])
def test_dropout_is_its_definition(p):
    seed = 0x123456789ABCDEF
    x = torch.randn(3, 401)
    mask = torch.tensor([kept(i, seed, p) for i in range(x.numel())]).view_as(x)
    torch.testing.assert_close(OPS.dropout(x, p, seed), x * mask / (1 - p))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_dropout_residual_and_types(dtype):
    x, residual = torch.randn(700).to(dtype), torch.randn(700).to(dtype)
    y = OPS.dropout(x, 0.5, 1, residual=residual)
    assert y.dtype == dtype
    kept_mask = OPS.dropout(torch.ones(700), 0.5, 1)
    expected = (residual.double() + x.double() * kept_mask.double()).to(dtype)
    assert torch.equal(y, expected)


def test_dropout_gradients():
    x = torch.randn(300, dtype=torch.float64, requires_grad=True)
    residual = torch.randn(300, dtype=torch.float64, requires_grad=True)
    f = lambda x, residual: OPS.dropout(x, 0.3, 4, residual=residual)
    assert torch.autograd.gradcheck(f, (x, residual))
    assert torch.autograd.gradgradcheck(f, (x, residual))


def test_dropout_does_not_depend_on_threads_or_layout():
    x = torch.randn(1000, 1001)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = OPS.dropout(x, 0.2, 9)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(OPS.dropout(x, 0.2, 9), one)
    assert torch.equal(OPS.dropout(x.t().contiguous().t(), 0.2, 9), one)


def test_dropout_errors():
    for call in (lambda: OPS.dropout(torch.ones(3), 1.0, 0),
                 lambda: OPS.dropout(torch.ones(3), -0.1, 0),
                 lambda: OPS.dropout(torch.ones(3), 0.1, 0, residual=torch.ones(4)),
                 lambda: OPS.dropout(torch.ones(3, dtype=torch.int32), 0.1, 0)):
        with pytest.raises(RuntimeError, match="fovea::dropout: expected"):
            call()


def angles(positions, d, theta=10000.0):
    frequency = theta ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    a = positions.double()[:, None] * frequency
    return torch.cat([a.cos(), a.sin()], dim=1)


def test_rotary_is_a_complex_product():
    t, h, d = 11, 5, 16
    x = torch.randn(t, h, d, dtype=torch.float64)
    positions = torch.arange(t) % 4
    table = angles(torch.arange(4), d)
    z = torch.complex(x[..., : d // 2], x[..., d // 2 :])
    turned = z * torch.complex(table[:, : d // 2], table[:, d // 2 :])[positions][:, None]
    expected = torch.cat([turned.real, turned.imag], dim=-1)
    expected[:, 3:] = x[:, 3:]
    y = OPS.rotary(x, table, positions, 3)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-15)
    torch.testing.assert_close(OPS.rotary(y, table, positions, 3, True), x, rtol=0, atol=1e-14)


def test_rotary_gradients():
    x = torch.randn(4, 3, 8, dtype=torch.float64, requires_grad=True)
    table, positions = angles(torch.arange(4), 8), torch.tensor([0, 1, 0, 3])
    f = lambda x: OPS.rotary(x, table, positions, 2)
    assert torch.autograd.gradcheck(f, (x,))
    assert torch.autograd.gradgradcheck(f, (x,))


def test_rotary_errors():
    x, table = torch.randn(4, 3, 8), torch.randn(2, 8)
    with pytest.raises(IndexError, match="below the table's length 2"):
        OPS.rotary(x, table, torch.tensor([0, 1, 2, 0]), 3)
    with pytest.raises(RuntimeError, match="fovea::rotary: expected"):
        OPS.rotary(x, table, torch.tensor([0, 1]), 3)
