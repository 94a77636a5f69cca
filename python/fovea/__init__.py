"""Exact attention over patterns on the CPU, forward and backward, as PyTorch operators.

    import fovea
    o = fovea.attention(q, k, v, "window(128)|global(1)")

Importing this package loads ``libfovea_ops.so`` and registers ``torch.ops.fovea.*``. The library is
taken from, in this order: the environment variable ``FOVEA_OPS_LIBRARY``, this package's folder,
``build/release/lib`` and ``build/dev/lib`` of the source tree around it.
"""

from fovea._library import VERSION as __version__
from fovea._library import library_path, load

load()

from fovea._attention import (  # noqa: E402  (the operators must be there)
    attention,
    attention_decode,
    attention_merge,
    attention_statistics,
    attention_varlen,
    pattern_mask,
    quantise_rows,
    t5_distance_bias,
)
from fovea._linear_attention import linear_attention, linear_attention_step  # noqa: E402

__all__ = [
    "__version__",
    "attention",
    "attention_decode",
    "attention_merge",
    "attention_statistics",
    "attention_varlen",
    "library_path",
    "linear_attention",
    "linear_attention_step",
    "pattern_mask",
    "quantise_rows",
    "t5_distance_bias",
]
