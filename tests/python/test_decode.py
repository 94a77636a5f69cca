"""fovea.attention_decode: what torch asks of an operator, and the same results as attention."""

import pytest
import torch

import fovea

OPS = torch.ops.fovea


def cache(batch=2, heads=4, kv_heads=2, capacity=40, dim=16, sq=1, dtype=torch.float32):
    q = torch.randn(batch, heads, sq, dim, dtype=dtype)
    k, v = (torch.randn(batch, kv_heads, capacity, dim, dtype=dtype) for _ in range(2))
    return q, k, v


def test_opcheck():
    q, k, v = cache()
    lengths = torch.tensor([7, 40], dtype=torch.int32)
    torch.library.opcheck(OPS.attention_decode, (q, k, v, lengths), {"window": 5})
    pages = torch.randperm(8).view(2, 4)
    k, v = (torch.randn(8, 2, 10, 16) for _ in range(2))
    torch.library.opcheck(OPS.attention_decode, (q, k, v, lengths), {"block_table": pages})


@pytest.mark.parametrize("window", [0, 6])
def test_is_attention_of_the_last_queries(window):
    q, k, v = cache(batch=1, sq=3)
    length = 29
    o, lse = fovea.attention_decode(q, k, v, torch.tensor([length]), window=window, return_lse=True)
    pattern = f"window({window - 1},0)" if window else "causal"
    wanted = fovea.attention(q, k[:, :, :length], v[:, :, :length], pattern, return_lse=True)
    torch.testing.assert_close((o, lse), wanted)


def test_generation_through_a_ring_is_a_window():
    _, k, v = cache(batch=1, capacity=60)
    q = torch.randn(1, 4, 60, 16)
    wanted = fovea.attention(q, k, v, "window(7,0)")
    ring_k, ring_v = torch.full_like(k[:, :, :8], torch.nan), torch.full_like(v[:, :, :8], torch.nan)
    for t in range(60):
        ring_k[:, :, t % 8], ring_v[:, :, t % 8] = k[:, :, t], v[:, :, t]
        o = fovea.attention_decode(q[:, :, t : t + 1], ring_k, ring_v, torch.tensor([t + 1]), ring=True, window=8)
        torch.testing.assert_close(o, wanted[:, :, t : t + 1])


@pytest.mark.parametrize("layout", ["contiguous", "ring", "paged"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_cache_is_within_its_bound(layout, dtype):
    q, k, v = cache(batch=2, capacity=64, dtype=dtype)
    lengths, options = torch.tensor([64, 64]), {"ring": layout == "ring"}
    if layout == "paged":
        k, v = (x.unflatten(2, (4, 16)).transpose(1, 2).flatten(0, 1) for x in (k, v))
        options["block_table"] = torch.arange(8).view(2, 4)
    (k8, k_scales), (v8, v_scales) = map(fovea.quantise_rows, (k, v))
    assert k8.dtype == torch.int8 and k_scales.shape == k.shape[:-1]
    scaled = {**options, "k_scales": k_scales, "v_scales": v_scales}
    got, got_lse = fovea.attention_decode(q, k8, v8, lengths, return_lse=True, **scaled)
    assert got.dtype == dtype
    back = [(x.float() * s[..., None]) for x, s in ((k8, k_scales), (v8, v_scales))]
    same = fovea.attention_decode(q.float(), *back, lengths, **options)
    torch.testing.assert_close(got.float(), same, rtol=torch.finfo(dtype).eps, atol=1e-5)
    o, lse = fovea.attention_decode(q.double(), k.double(), v.double(), lengths, return_lse=True, **options)
    move = q.double().abs().sum(-1).max() / 4 * k_scales.max() / 2  # 1/sqrt(16)
    assert (got_lse - lse).abs().max() <= move + 1e-5
    bound = v_scales.max() / 2 + torch.expm1(2 * move) * v.double().abs().max()
    assert (got - o).abs().max() <= bound + torch.finfo(dtype).eps * o.abs().max()


def test_quantise_rows():
    x = torch.randn(3, 5, 16)
    torch.library.opcheck(OPS.quantise_rows, (x,))
    rows, scales = fovea.quantise_rows(x.transpose(0, 1))
    assert (rows * scales[..., None] - x.transpose(0, 1)).abs().max() <= scales.max() * 0.5001
    q, k, v = cache()
    with pytest.raises(RuntimeError, match=r"expected k_scales as the rows = \[2, 2, 40\]"):
        fovea.attention_decode(q, k.to(torch.int8), v.to(torch.int8), torch.tensor([3, 4]))


def test_says_what_is_wrong():
    q, k, v = cache()
    with pytest.raises(RuntimeError, match="up to the cache's 40, got 41 for sequence 1"):
        fovea.attention_decode(q, k, v, torch.tensor([3, 41]))
    with pytest.raises(RuntimeError, match=r"expected lengths \[2\]"):
        fovea.attention_decode(q, k, v, torch.tensor([3]))
