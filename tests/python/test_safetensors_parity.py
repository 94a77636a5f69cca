"""Our safetensors reader and writer against the `safetensors` package: equal content, equal bytes."""

import json
import os
import pathlib
import struct
import subprocess

import pytest

safetensors = pytest.importorskip("safetensors")
import torch
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]


def find_program():
    built = [p for p in ROOT.glob("build/*/bin/safetensors_copy") if os.access(p, os.X_OK)]
    return str(max(built, key=lambda p: p.stat().st_mtime)) if built else None


PROGRAM = find_program()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="safetensors_copy is not built")


def copy(source, target):
    return subprocess.run([PROGRAM, str(source), str(target)], capture_output=True, check=False)


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
          torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.uint64]


def tensors():
    every = {f"layer.{i}.{str(dtype)[6:]}": torch.arange(12).reshape(3, 4).to(dtype)
             for i, dtype in enumerate(DTYPES)}
    every["scalar"] = torch.tensor(2.5)
    every["empty"] = torch.empty(0, 4)
    every["eight"] = torch.ones(1, 1, 2, 1, 1, 1, 1, 3)
    every["odd"] = torch.ones(7, dtype=torch.uint8)
    every['quote " back \\ é 漢 \n \x7f'] = torch.ones(1)
    return every


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"ключ": 'a"b\\c\n\x01'}])
def test_copy_is_identical(tmp_path, metadata):
    save_file(tensors(), tmp_path / "a.safetensors", metadata)
    done = copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    loaded = load_file(tmp_path / "b.safetensors")
    for name, tensor in tensors().items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor), name


def test_no_tensors(tmp_path):
    save_file({}, tmp_path / "a")
    assert copy(tmp_path / "a", tmp_path / "b").returncode == 0
    assert load_file(tmp_path / "b") == {}


def raw(header, data):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return struct.pack("<Q", len(text)) + text + data


def u8(begin, end, shape=None):
    return {"dtype": "U8", "shape": [end - begin] if shape is None else shape,
            "data_offsets": [begin, end]}


HOSTILE = {
    "truncated": raw({"a": u8(0, 4)}, b"123"),
    "longer": raw({"a": u8(0, 4)}, b"12345"),
    "overlap": raw({"a": u8(0, 4), "b": u8(2, 6)}, b"123456"),
    "gap": raw({"a": u8(0, 2), "b": u8(3, 4)}, b"1234"),
    "shape": raw({"a": u8(0, 4, [5])}, b"1234"),
    "overflow": raw({"a": u8(0, 4, [2**62, 2**62])}, b"1234"),
    "header_length": struct.pack("<Q", 2**63) + b"{}",
    "no_object": raw(b"[]", b""),
    "not_json": raw(b"{abc}", b""),
    "not_utf8": raw(b'{"\xff": {}}', b""),
    "empty": b"",
    "dtype": raw({"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 1]}}, b"1"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_both_refuse(tmp_path, name):
    (tmp_path / "a").write_bytes(HOSTILE[name])
    with pytest.raises(Exception):
        load_file(tmp_path / "a")
    done = copy(tmp_path / "a", tmp_path / "b")
    assert done.returncode == 2, done.stderr.decode()
    assert not (tmp_path / "b").exists()
