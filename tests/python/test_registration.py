"""What torch asks of a custom operator: opcheck, tracing by torch.compile, no graph breaks."""

from pathlib import Path

import pytest
import torch
from cases import operands, packed_operands

import fovea

OPS = torch.ops.fovea


def dense(**kw):
    return operands(sq=9, sk=11, dv=8, **kw)


def test_opcheck_attention():
    q, k, v = dense()
    torch.library.opcheck(OPS.attention, (q, k, v, "window(3,2)"))
    torch.library.opcheck(OPS.attention, (q, k, v, "causal"), {"dropout_p": 0.2, "dropout_seed": 5})
    lengths = torch.tensor([4, 11], dtype=torch.int32)
    torch.library.opcheck(OPS.attention, (q, k, v, "key_lengths"), {"key_lengths": lengths})


def test_opcheck_attention_backward():
    q, k, v = dense(grad=False)
    o, lse = OPS.attention(q, k, v)
    arguments = (torch.randn_like(o), torch.randn_like(lse), q, k, v, o, lse)
    torch.library.opcheck(OPS.attention_backward, arguments)
    torch.library.opcheck(OPS.attention_backward, (arguments[0], None, *arguments[2:]))


def test_opcheck_varlen():
    q, k, v, offsets = packed_operands([3, 4])
    torch.library.opcheck(OPS.attention_varlen, (q, k, v, offsets, offsets, "causal"))
    q, k, v = (x.detach() for x in (q, k, v))
    o, lse = OPS.attention_varlen(q, k, v, offsets, offsets)
    arguments = (torch.randn_like(o), None, q, k, v, o, lse, offsets, offsets)
    torch.library.opcheck(OPS.attention_varlen_backward, arguments)


def test_opcheck_qkv():
    qkv = torch.randn(7, 4, 8, dtype=torch.float64, requires_grad=True)
    offsets = torch.tensor([0, 3, 7], dtype=torch.int32)
    torch.library.opcheck(OPS.attention_qkv, (qkv, 2, offsets, "window(1)"))
    qkv = qkv.detach()
    o, lse = OPS.attention_qkv(qkv, 2, offsets)
    arguments = (torch.randn_like(o), None, qkv, o, lse, 2, offsets)
    torch.library.opcheck(OPS.attention_qkv_backward, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_opcheck_dropout_and_rotary(dtype):
    x = torch.randn(5, 3, 8).to(dtype).requires_grad_()
    torch.library.opcheck(OPS.dropout, (x, 0.3, 7))
    torch.library.opcheck(OPS.dropout, (x, 0.3, 7), {"residual": torch.randn_like(x)})
    table, positions = torch.randn(4, 8), torch.tensor([0, 1, 2, 3, 0])
    torch.library.opcheck(OPS.rotary, (x, table, positions, 2))


def test_compile_fullgraph_forward_and_backward():
    def loss(q, k, v, seed):
        o, lse = OPS.attention(q * 2, k, v, "window(4)", dropout_p=0.1, dropout_seed=seed)
        return (o.transpose(1, 2).flatten(2).tanh().sum(-1) + lse.transpose(1, 2).sum(-1)).sum()

    q, k, v = dense(dtype=torch.float32)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for seed in (1, 2):
        expected = torch.autograd.grad(loss(q, k, v, seed), (q, k, v))
        actual = torch.autograd.grad(compiled(q, k, v, seed), (q, k, v))
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_compile_changing_seeds_and_lengths_does_not_respecialise():
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(
        lambda q, k, v, offsets, seed: OPS.attention_varlen(
            q, k, v, offsets, offsets, "causal", dropout_p=0.1, dropout_seed=seed
        )[0],
        fullgraph=True,
        backend=counter,
    )
    for seed, lengths in enumerate([[3, 4], [5, 9], [2, 7], [1, 30]]):
        q, k, v, offsets = packed_operands(lengths, grad=False)
        compiled(q, k, v, offsets, seed + 10)
    assert counter.frame_count <= 2  # once as constants, once with symbols


def test_meta_tensors():
    q, k, v = (x.to("meta") for x in dense())
    o, lse = OPS.attention(q, k, v)
    assert o.shape == (2, 4, 9, 8) and lse.shape == (2, 4, 9) and lse.dtype == torch.float64
    assert o.is_meta and o.transpose(1, 2).is_contiguous()


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setenv("FOVEA_OPS_LIBRARY", "/nowhere/libfovea_ops.so")
    with pytest.raises(ImportError, match="/nowhere/libfovea_ops.so"):
        fovea.library_path()


def test_library_of_another_version_is_named():
    from fovea._library import check_version

    check_version(fovea.__version__, "/lib/libfovea_ops.so")
    for found, said in (("0.0.9", "version 0.0.9"), (None, "does not tell its version")):
        with pytest.raises(ImportError, match=f"/lib/libfovea_ops.so.*{said}.*cmake --build"):
            check_version(found, "/lib/libfovea_ops.so")


def test_version_is_the_projects():
    project = Path(__file__).resolve().parents[2] / "CMakeLists.txt"
    assert f"project(fovea VERSION {fovea.__version__} " in project.read_text()
    assert OPS.version() == fovea.__version__
