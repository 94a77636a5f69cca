"""Softmax attention over patterns, and what goes with it."""

import math
from collections.abc import Sequence

import torch

from fovea import _definitions
from fovea._derivatives import Operator, recorded, register_recorded, run, transformed

OPS = torch.ops.fovea


class _Attention(Operator):
    """``torch.ops.fovea.attention``, or ``attention_varlen`` where there are cu_seqlens."""

    OPTIONS = {"scale": None, "dropout_p": 0.0, "dropout_seed": 0, "top_left": False,
               "softcap": 0.0, "cosine": False, "negative_slope": 1.0}  # fmt: skip
    NAMES = ("bias", "distance_bias", "sinks", "scales", "additive", "alibi_slopes", "key_lengths",
             "intervals", "block_mask", "global_tokens")  # fmt: skip
    differentiable = 3 + 5  # query, key, value, and the first of these
    outputs = 2

    def __init__(self, pattern, arguments):
        if unknown := arguments.keys() - self.OPTIONS.keys() - set(self.NAMES):
            raise TypeError(f"fovea: expected the arguments of fovea.attention, got {unknown}")
        self.pattern = pattern
        self.options = {name: arguments.get(name, x) for name, x in self.OPTIONS.items()}

    def tensors(self, query, key, value, cu_seqlens, arguments):
        named = (arguments.get(name) for name in self.NAMES)
        return (query, key, value, *named, *(cu_seqlens or (None, None)))

    def _arguments(self, tensors):
        return {**self.options, **dict(zip(self.NAMES, tensors[3:]))}

    def fused(self, *tensors):
        arguments, cu_seqlens = self._arguments(tensors), tensors[-2:]
        if cu_seqlens[0] is None:
            return OPS.attention(*tensors[:3], self.pattern, **arguments)
        return OPS.attention_varlen(*tensors[:3], *cu_seqlens, self.pattern, **arguments)

    def fused_backward(self, wanted, d_outputs, tensors, outputs):
        arguments, cu_seqlens = self._arguments(tensors), tensors[-2:]
        arguments["bias_gradient"] = 3 in wanted
        x = (*d_outputs, *tensors[:3], *outputs)
        if cu_seqlens[0] is None:
            gradients = OPS.attention_backward(*x, self.pattern, **arguments)
        else:
            gradients = OPS.attention_varlen_backward(*x, *cu_seqlens, self.pattern, **arguments)
        return tuple(gradients[i] for i in wanted)

    def defined(self, *tensors):
        return _definitions.softmax_attention(self.pattern, self.options, *tensors)

    def batched(self, tensors, mapped, wanted=()):
        # The coordinates of dropout would change, and gradients of what the batch shares be sums.
        bias, key_lengths, packed = tensors[3], tensors[9], tensors[-1] is not None
        begins = tuple(i < 3 or i == 9 for i in range(len(tensors)))
        if (
            packed
            or self.options["dropout_p"] > 0
            or any(m and not b for m, b in zip(mapped, begins))
            or any(i >= 3 for i in wanted)
            or (bias is not None and bias.dim() == 4 and bias.shape[0] > 1)
            or (mapped[9] and key_lengths.dim() != 2)
        ):
            return None
        return begins


def _backward_recorded(d_o, d_lse, q, k, v, o, lse, *rest, bias_gradient=False, **arguments):
    """Both backward operators: ``rest`` is cu_seqlens, if any, and the pattern, unless "full"."""
    operator = _Attention(rest[-1] if len(rest) % 2 else "full", arguments)
    tensors = operator.tensors(q, k, v, rest[:2] if len(rest) > 1 else (), arguments)
    skip = () if bias_gradient else (3,)
    gradients = recorded(operator, (d_o, d_lse), tensors, (o, lse), skip)
    return tuple(q.new_empty(0) if x is None else x for x in gradients)


register_recorded("attention_backward_recorded", _backward_recorded)
register_recorded("attention_varlen_backward_recorded", _backward_recorded)


def _with_scales(arguments, heads):
    """A learned scale under the operators' name for it."""
    scale = arguments.get("scale")
    if isinstance(scale, torch.Tensor):
        arguments["scale"] = None
        arguments["scales"] = scale.reshape(-1).expand(heads) if scale.numel() == 1 else scale
    return arguments


def _attend(query, key, value, cu_seqlens, pattern, return_lse, arguments):
    _with_scales(arguments, query.shape[1])
    if arguments.get("dropout_seed") is None:
        drops = arguments.get("dropout_p", 0.0) != 0
        arguments["dropout_seed"] = int(torch.randint(2**63 - 1, ())) if drops else 0
    if transformed():
        slopes = arguments.get("alibi_slopes")
        if slopes is not None and slopes.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError("fovea: alibi_slopes have no gradient; a distance_bias has")
        operator = _Attention(pattern, arguments)
        tensors = operator.tensors(query, key, value, cu_seqlens, arguments)
        o, lse = run(operator, *tensors)
    elif cu_seqlens:
        o, lse = OPS.attention_varlen(query, key, value, *cu_seqlens, pattern, **arguments)
    else:
        o, lse = OPS.attention(query, key, value, pattern, **arguments)
    return (o, lse) if return_lse else o


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
    additive: torch.Tensor | None = None,
    negative_slope: float = 1.0,
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
    1/sqrt(D), a number, or a learned tensor, one or [H] (the inverse of a temperature). With
    ``additive`` weights w [D] or [H, D] it is ``Σ w · tanh(q + k)`` in its place, without scale and
    cosine. Then, in this order (docs/scores.md): below 0 times ``negative_slope`` (leaky ReLU); ``softcap · tanh(s / softcap)`` for ``softcap > 0``; plus ``bias``
    [B|1, H|1, Sq|1, Sk] (extents of 1 broadcast, leading ones may be left out, -inf hides a key);
    plus ``distance_bias`` [H|1, 2m+1], entry m + clamp(key position - query position, -m, m) (see
    :func:`t5_distance_bias`); minus ``alibi_slopes`` [H] times the distance. ``sinks`` [H] are one
    more score for each head that takes weight and gives nothing. Positions count as in the
    pattern. All but the slopes are differentiable.

    Dropout is a function of ``dropout_seed`` and positions only, the same for any number of
    threads; without a seed one is drawn from torch's generator (give one under torch.compile).

    Returns o [B, Hq, Sq, Dv], and with ``return_lse`` also the softmax's log denominator
    [B, Hq, Sq] in float32; both are differentiable, any number of times, forwards, and under
    torch.func (docs/python.md). A row that sees no key gives 0 and -inf.
    """
    arguments = {
        "scale": scale, "dropout_p": dropout_p, "dropout_seed": dropout_seed,
        "top_left": top_left, "key_lengths": key_lengths, "intervals": intervals,
        "block_mask": block_mask, "global_tokens": global_tokens, "softcap": softcap,
        "bias": bias, "distance_bias": distance_bias, "alibi_slopes": alibi_slopes,
        "sinks": sinks, "cosine": cosine, "additive": additive, "negative_slope": negative_slope,
    }  # fmt: skip
    return _attend(query, key, value, (), pattern, return_lse, arguments)


def attention_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    pattern: str = "full",
    *,
    return_lse: bool = False,
    **arguments,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """:func:`attention` over documents packed one after another, without padding.

    Shapes: query [Tq, Hq, D], key [Tk, Hkv, D], value [Tk, Hkv, Dv]; ``cu_seqlens_q`` and
    ``cu_seqlens_k`` int32 [N + 1]: document n is rows ``cu_seqlens[n]`` to ``cu_seqlens[n + 1]``.
    A query sees keys of its own document only, and ``pattern`` counts positions inside it: the
    result is that of N separate calls. The other ``arguments`` are those of :func:`attention`, but
    ``bias`` is over the packed rows, [1, Hq|1, Tq|1, Tk], and ``key_lengths`` [N] are of documents.

    Returns o [Tq, Hq, Dv], and with ``return_lse`` also lse [Hq, Tq].
    """
    cu_seqlens = (cu_seqlens_q, cu_seqlens_k)
    return _attend(query, key, value, cu_seqlens, pattern, return_lse, arguments)


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
    k_scales: torch.Tensor | None = None,
    v_scales: torch.Tensor | None = None,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Causal attention of the newest queries of each sequence to a cache of keys and values.

    Shapes: query [B, Hq, Sq, D] (Sq = 1 to generate, more for a chunk of a prompt), ``k_cache``
    [B, Hkv, C, D], ``v_cache`` [B, Hkv, C, Dv], ``lengths`` int [B]: positions written, the
    queries' own included; query i stands at position ``lengths - Sq + i``. With ``block_table``
    int [B, blocks] the caches are pages [pages, Hkv, P, D], position p in row p % P of page
    ``block_table[b, p // P]``; with ``ring`` position p is in row p % C. ``window`` > 0: a query
    sees itself and the ``window`` - 1 positions before it. Rows that no query sees are never read.
    Caches of int8 come with ``k_scales`` and ``v_scales`` [B, Hkv, C] (or [pages, Hkv, P]), made by
    ``quantise_rows``; they hold a quarter of float32's bytes.

    Returns o [B, Hq, Sq, Dv], and with ``return_lse`` also lse [B, Hq, Sq]. Not differentiable.
    """
    o, lse = OPS.attention_decode(
        query, k_cache, v_cache, lengths, block_table=block_table, ring=ring, window=window, scale=scale,
        k_scales=k_scales, v_scales=v_scales,
    )
    return (o, lse) if return_lse else o


def quantise_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [..., D] to int8 rows and float32 scales [...], x ≈ rows · scales: for int8 caches.

    Symmetric: a row's scale s is max|x| / 127, its values x / s to the nearest integer, so no value
    moves by more than s / 2. For attention that means, with e = |scale| · |q|_1 · max s_k / 2, that
    lse moves by at most e and o by at most max s_v / 2 + (exp(2e) - 1) · max|v|. A row that
    holds NaN or infinity becomes NaN. x: float32, bfloat16 or float16; D a multiple of 8 up to 256.

    ::

        rows, scales = fovea.quantise_rows(k)              # k [B, Hkv, 1, D] of the new token
        k_cache[:, :, t : t + 1], k_scales[:, :, t : t + 1] = rows, scales
    """
    return OPS.quantise_rows(x)


def pattern_mask(
    pattern: str,
    q_len: int,
    kv_len: int | None = None,
    *,
    batch: int = 1,
    heads: int = 1,
    top_left: bool = False,
    key_lengths: torch.Tensor | None = None,
    intervals: torch.Tensor | None = None,
    block_mask: torch.Tensor | None = None,
    global_tokens: torch.Tensor | None = None,
    cu_seqlens_q: torch.Tensor | None = None,
    cu_seqlens_k: torch.Tensor | None = None,
) -> torch.Tensor:
    """Who sees whom under ``pattern``: bool, broadcasts to [batch, heads, q_len, kv_len].

    True where the query (row) sees the key (column), as ``attn_mask`` of torch's
    scaled_dot_product_attention. ``kv_len`` is ``q_len`` unless given; the other arguments are
    those of :func:`attention` and, with ``cu_seqlens``, of :func:`attention_varlen`. The first
    extent is 1 unless the pattern has ``key_lengths``, the second unless it has ``per_head``.
    """
    return OPS.pattern_mask(
        torch.empty(0), pattern, batch, heads, q_len, q_len if kv_len is None else kv_len,
        top_left=top_left, key_lengths=key_lengths, intervals=intervals, block_mask=block_mask,
        global_tokens=global_tokens, cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k,
    )[0]  # fmt: skip


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
    return OPS.attention_merge(o, lse, sinks=sinks)


def attention_statistics(
    query: torch.Tensor, key: torch.Tensor, lse: torch.Tensor, pattern: str = "full", **arguments
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the weights of :func:`attention` say about themselves: (row_entropy, column_mass).

    ``lse`` is attention's, ``pattern`` and the other arguments are those it was called with.
    row_entropy [B, Hq, Sq] is -Σ w ln w over a row's keys (nats; a sink's weight has no part in it),
    column_mass [B, Hq, Sk] is what each key receives, Σ w over the queries; both before dropout and
    without the matrix of weights. Not differentiable; costs about half of attention's forward.
    """
    _with_scales(arguments, query.shape[1])
    return OPS.attention_statistics(query, key, lse, pattern, **arguments)
