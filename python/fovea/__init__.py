"""Exact attention over patterns on the CPU, forward and backward, as PyTorch operators.

    import fovea
    o = fovea.attention(q, k, v, "window(128)|global(1)")

Importing this package loads ``libfovea_ops.so`` and registers ``torch.ops.fovea.*``. The library is
taken from, in this order: the environment variable ``FOVEA_OPS_LIBRARY``, this package's folder,
``build/release/lib`` and ``build/dev/lib`` of the source tree around it.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch

__all__ = [
    "attention",
    "attention_decode",
    "attention_merge",
    "attention_statistics",
    "attention_varlen",
    "library_path",
    "linear_attention",
    "linear_attention_step",
    "t5_distance_bias",
]


def library_path() -> str:
    """Path of the operators' library; raises ImportError that lists where it was looked for."""
    name = "libfovea_ops.so"
    if chosen := os.environ.get("FOVEA_OPS_LIBRARY"):
        if not Path(chosen).is_file():
            raise ImportError(f"FOVEA_OPS_LIBRARY: expected a file, found nothing at {chosen}")
        return chosen
    here = Path(__file__).resolve().parent
    root = here.parent.parent
    places = [here / name, *(root / "build" / preset / "lib" / name for preset in ("release", "dev"))]
    for place in places:
        if place.is_file():
            return str(place)
    looked = "\n  ".join(str(place) for place in places)
    raise ImportError(
        f"{name} was not found; build it (scripts/setup, cmake --preset release) or set "
        f"FOVEA_OPS_LIBRARY. Looked in:\n  {looked}"
    )


torch.ops.load_library(library_path())


def _seed(dropout_p: float, dropout_seed: int | None) -> int:
    if dropout_seed is not None or dropout_p == 0:
        return dropout_seed or 0
    return int(torch.randint(2**63 - 1, ()))


def _scale(scale: float | torch.Tensor | None, heads: int) -> dict:
    if not isinstance(scale, torch.Tensor):
        return {"scale": scale}
    return {"scales": scale.reshape(-1).expand(heads) if scale.numel() == 1 else scale}


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pattern: str = "full",
    *,
    scale: float | torch.Tensor | None = None,
    dropout_p: float = 0.0,
    dropout_seed: int | None = None,
    top_left: bool = False,
    key_lengths: torch.Tensor | None = None,
    intervals: torch.Tensor | None = None,
    block_mask: torch.Tensor | None = None,
    global_tokens: torch.Tensor | None = None,
    softcap: float = 0.0,
    bias: torch.Tensor | None = None,
    distance_bias: torch.Tensor | None = None,
    alibi_slopes: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    cosine: bool = False,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention where ``pattern`` says which keys a query sees.

    Shapes: query [B, Hq, Sq, D], key [B, Hkv, Sk, D], value [B, Hkv, Sk, Dv] with Hq a multiple of
    Hkv (grouped-query attention, nothing is copied), D and Dv multiples of 8 up to 256; float32,
    bfloat16, float16 or float64; CPU.

    ``pattern``: ``full``, ``causal``, ``window(left,right)`` (inclusive), ``dilated``, ``chunked``,
    ``global(n)`` and others, joined by ``&`` and ``|``; for example
    ``"window(128)|global(1)"``. Queries are aligned with the keys' end when lengths differ, with
    their start under ``top_left`` (as ``is_causal`` of torch's scaled_dot_product_attention).
    Patterns that mention them take ``key_lengths`` [B], ``intervals`` [Sq, 2], ``block_mask``
    [rows, columns] and ``global_tokens`` [n].

    A score is ``scale · q·k``, with q and k divided by their length under ``cosine``; ``scale`` is
    1/sqrt(D), a number, or a learned tensor, one or [H] (the inverse of a temperature). Then, in this order
    (docs/scores.md): ``softcap · tanh(s / softcap)`` for ``softcap > 0``; plus ``bias``
    [B|1, H|1, Sq|1, Sk] (extents of 1 broadcast, leading ones may be left out, -inf hides a key);
    plus ``distance_bias`` [H|1, 2m+1], entry m + clamp(key position - query position, -m, m) (see
    :func:`t5_distance_bias`); minus ``alibi_slopes`` [H] times the distance. ``sinks`` [H] are one
    more score for each head that takes weight and gives nothing. Positions count as in the
    pattern. All but the slopes are differentiable.

    Dropout is a function of ``dropout_seed`` and positions
    only, the same for any number of threads; without a seed one is drawn from torch's generator
    (give one under torch.compile).

    Returns o [B, Hq, Sq, Dv], and with ``return_lse`` also the softmax's log denominator
    [B, Hq, Sq] in float32; both are differentiable. A row that sees no key gives 0 and -inf.
    """
    o, lse = torch.ops.fovea.attention(
        query,
        key,
        value,
        pattern,
        **_scale(scale, query.shape[1]),
        dropout_p=dropout_p,
        dropout_seed=_seed(dropout_p, dropout_seed),
        top_left=top_left,
        key_lengths=key_lengths,
        intervals=intervals,
        block_mask=block_mask,
        global_tokens=global_tokens,
        softcap=softcap,
        bias=bias,
        distance_bias=distance_bias,
        alibi_slopes=alibi_slopes,
        sinks=sinks,
        cosine=cosine,
    )
    return (o, lse) if return_lse else o


def attention_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    pattern: str = "full",
    *,
    scale: float | torch.Tensor | None = None,
    dropout_p: float = 0.0,
    dropout_seed: int | None = None,
    top_left: bool = False,
    softcap: float = 0.0,
    bias: torch.Tensor | None = None,
    distance_bias: torch.Tensor | None = None,
    alibi_slopes: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    cosine: bool = False,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """:func:`attention` over documents packed one after another, without padding.

    Shapes: query [Tq, Hq, D], key [Tk, Hkv, D], value [Tk, Hkv, Dv]; ``cu_seqlens_q`` and
    ``cu_seqlens_k`` int32 [N + 1]: document n is rows ``cu_seqlens[n]`` to ``cu_seqlens[n + 1]``.
    A query sees keys of its own document only, and ``pattern`` counts positions inside it: the
    result is that of N separate calls. ``bias`` is over the packed rows: [1, Hq|1, Tq|1, Tk].

    Returns o [Tq, Hq, Dv], and with ``return_lse`` also lse [Hq, Tq].
    """
    o, lse = torch.ops.fovea.attention_varlen(
        query,
        key,
        value,
        cu_seqlens_q,
        cu_seqlens_k,
        pattern,
        **_scale(scale, query.shape[1]),
        dropout_p=dropout_p,
        dropout_seed=_seed(dropout_p, dropout_seed),
        top_left=top_left,
        softcap=softcap,
        bias=bias,
        distance_bias=distance_bias,
        alibi_slopes=alibi_slopes,
        sinks=sinks,
        cosine=cosine,
    )
    return (o, lse) if return_lse else o


def linear_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    causal: bool = False,
    feature_map: str = "elu+1",
    normalise: bool = True,
    decay: torch.Tensor | None = None,
    beta: torch.Tensor | None = None,
    initial_state: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None = None,
    scale: float = 1.0,
    eps: float = 1e-6,
    return_state: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Linear attention (Katharopoulos et al. 2020): cost and memory linear in the length.

    With f the ``feature_map`` (``identity``, ``elu+1`` or ``relu``), for each sequence and head::

        S_t = exp(decay_t) S_{t-1} + f(k_t) v_t^T        z_t = exp(decay_t) z_{t-1} + f(k_t)
        o_t = S_t^T f(q_t) / (z_t . f(q_t) + eps)        scale * S_t^T f(q_t) if not ``normalise``

    With ``beta`` (delta writes, DeltaNet and Gated DeltaNet; ``causal``, not ``normalise``) what the
    state says about a key is replaced, in the share beta_t::

        S_t = S' + beta_t f(k_t) (v_t - S'^T f(k_t))^T   S' = exp(decay_t) S_{t-1}

    which stays bounded where beta_t |f(k_t)|^2 <= 2. Unless ``causal``, every query reads the state
    after the last key, and there is no decay.

    Shapes: query [B, H, Sq, D], key [B, H, Sk, D], value [B, H, Sk, Dv]; D and Dv multiples of 8 up
    to 256; float32, bfloat16, float16 or float64; CPU. Packed documents:
    [T, H, D] with ``cu_seqlens`` int32 [N + 1] (a pair for queries and keys where they differ).
    ``decay`` holds natural logarithms <= 0: [H] (one a head, as RetNet) or [B, H, S], packed [T, H]
    (one a step, as Mamba-2), or [B, H, S, D], packed [T, H, D] (one a step and channel, as GLA);
    ``beta`` is [B, H, S], packed [T, H]. A state is [N, H, D, Dv + 1] (Dv if not ``normalise``) in float32,
    z in its last column; ``initial_state`` and the state that ``return_state`` adds to the result
    carry a sequence on, one token at a time for generation. All tensors are differentiable.
    """
    offsets = cu_seqlens if isinstance(cu_seqlens, tuple) else (cu_seqlens, cu_seqlens)
    if decay is not None and decay.dim() == 1:
        packed = cu_seqlens is not None
        decay = decay.expand(key.shape[:2]) if packed else decay[:, None].expand(key.shape[:3])
    o, _, state = torch.ops.fovea.linear_attention(
        query,
        key,
        value,
        decay=decay,
        beta=beta,
        initial_state=initial_state,
        cu_seqlens_q=offsets[0],
        cu_seqlens_k=offsets[1],
        feature_map=feature_map,
        causal=causal,
        normalise=normalise,
        scale=scale,
        eps=eps,
    )
    return (o, state) if return_state else o


def linear_attention_step(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    state: torch.Tensor,
    *,
    feature_map: str = "elu+1",
    normalise: bool = True,
    decay: torch.Tensor | None = None,
    beta: torch.Tensor | None = None,
    scale: float = 1.0,
    eps: float = 1e-6,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of :func:`linear_attention` for generation, in constant memory: (o, next state).

    Shapes: query, key [B, H, D], value [B, H, Dv], state [B, H, D, Dv + 1] (Dv if not
    ``normalise``; zeros before the first step), ``decay`` [B, H] or [B, H, D], ``beta`` [B, H].
    Agrees with the whole sequence to rounding, for every write and decay. No gradients.
    """
    return torch.ops.fovea.linear_attention_step(
        query,
        key,
        value,
        state,
        decay=decay,
        beta=beta,
        feature_map=feature_map,
        normalise=normalise,
        scale=scale,
        eps=eps,
    )


def attention_decode(
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    lengths: torch.Tensor,
    *,
    block_table: torch.Tensor | None = None,
    ring: bool = False,
    window: int = 0,
    scale: float | None = None,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Causal attention of the newest queries of each sequence to a cache of keys and values.

    Shapes: query [B, Hq, Sq, D] (Sq = 1 to generate, more for a chunk of a prompt), ``k_cache``
    [B, Hkv, C, D], ``v_cache`` [B, Hkv, C, Dv], ``lengths`` int [B]: positions written, the
    queries' own included; query i stands at position ``lengths - Sq + i``. With ``block_table``
    int [B, blocks] the caches are pages [pages, Hkv, P, D], position p in row p % P of page
    ``block_table[b, p // P]``; with ``ring`` position p is in row p % C. ``window`` > 0: a query
    sees itself and the ``window`` - 1 positions before it. Rows that no query sees are never read.

    Returns o [B, Hq, Sq, Dv], and with ``return_lse`` also lse [B, Hq, Sq]. Not differentiable.
    """
    o, lse = torch.ops.fovea.attention_decode(
        query, k_cache, v_cache, lengths, block_table=block_table, ring=ring, window=window, scale=scale
    )
    return (o, lse) if return_lse else o


def t5_distance_bias(
    weight: torch.Tensor, *, bidirectional: bool = True, max_distance: int = 128
) -> torch.Tensor:
    """T5's relative position bias (Raffel et al. 2020, §2.1) as ``distance_bias``: [H, 2m+1].

    ``weight`` is the table of buckets [buckets, H] (``relative_attention_bias.weight`` of a Hugging
    Face T5), differentiable. Half of the buckets (of those for one side, when ``bidirectional``)
    hold one distance each, the others grow logarithmically up to ``max_distance``; what is farther
    shares the last one, so m = ``max_distance`` says it all.
    """
    distance = torch.arange(-max_distance, max_distance + 1, device=weight.device)
    buckets = weight.shape[0]
    if bidirectional:
        buckets //= 2
        bucket = (distance > 0) * buckets
        distance = distance.abs()
    else:
        bucket = torch.zeros_like(distance)
        distance = (-distance).clamp(min=0)
    exact = buckets // 2
    # float32, as T5 computes it: the edges of buckets are matters of rounding.
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
    bucket = bucket + torch.where(distance < exact, distance, far)
    return weight[bucket].transpose(0, 1)


def attention_merge(
    parts: Sequence[tuple[torch.Tensor, torch.Tensor]], *, sinks: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Results over disjoint sets of keys, merged to those over all of them.

    ``parts``: (o, lse) of :func:`attention` or :func:`attention_varlen` with ``return_lse``, made
    without sinks, of the same queries. ``sinks`` [H] join here. Returns (o, lse), differentiable any
    number of times. Dropout of a part must draw for its own keys: give each part another seed.
    """
    o, lse = zip(*parts)
    return torch.ops.fovea.attention_merge(o, lse, sinks=sinks)


def attention_statistics(
    query: torch.Tensor, key: torch.Tensor, lse: torch.Tensor, pattern: str = "full", **arguments
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the weights of :func:`attention` say about themselves: (row_entropy, column_mass).

    ``lse`` is attention's, ``pattern`` and the other arguments are those it was called with.
    row_entropy [B, Hq, Sq] is -Σ w ln w over a row's keys (nats; a sink's weight has no part in it),
    column_mass [B, Hq, Sk] is what each key receives, Σ w over the queries; both before dropout and
    without the matrix of weights. Not differentiable; costs about half of attention's forward.
    """
    scale = _scale(arguments.pop("scale", None), query.shape[1])
    return torch.ops.fovea.attention_statistics(query, key, lse, pattern, **scale, **arguments)
