"""Linear attention."""

import torch

from fovea import _definitions
from fovea._derivatives import Operator, recorded, register_recorded, run, transformed

OPS = torch.ops.fovea


class _LinearAttention(Operator):
    """``torch.ops.fovea.linear_attention``: (o, denominator, final state)."""

    OPTIONS = {"feature_map": "elu+1", "causal": False, "normalise": True, "scale": 1.0,
               "eps": 1e-6}  # fmt: skip
    NAMES = ("decay", "beta", "initial_state", "cu_seqlens_q", "cu_seqlens_k")
    differentiable = 3 + 3  # query, key, value, and the first of these
    outputs = 3

    def __init__(self, arguments):
        self.options = {name: arguments.get(name, x) for name, x in self.OPTIONS.items()}

    def tensors(self, query, key, value, arguments):
        return (query, key, value, *(arguments.get(name) for name in self.NAMES))

    def _arguments(self, tensors):
        return {**self.options, **dict(zip(self.NAMES, tensors[3:]))}

    def fused(self, *tensors):
        return OPS.linear_attention(*tensors[:3], **self._arguments(tensors))

    def fused_backward(self, wanted, d_outputs, tensors, outputs):
        d_o, _, d_state = d_outputs
        gradients = OPS.linear_attention_backward(
            d_o, d_state, *tensors[:3], *outputs[:2], **self._arguments(tensors)
        )
        return tuple(gradients[i] for i in wanted)

    def defined(self, *tensors):
        return _definitions.linear_attention(self.options, *tensors)

    def batched(self, tensors, mapped, wanted=()):
        packed = tensors[-1] is not None
        return None if packed else (True,) * len(tensors)


def _backward_recorded(d_o, d_final_state, q, k, v, o, denominator, **arguments):
    operator = _LinearAttention(arguments)
    tensors = operator.tensors(q, k, v, arguments)
    gradients = recorded(operator, (d_o, None, d_final_state), tensors, (o, denominator, None))
    return tuple(q.new_empty(0) if x is None else x for x in gradients)


register_recorded("linear_attention_backward_recorded", _backward_recorded)


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
    ``beta`` is [B, H, S], packed [T, H]. A state is [N, H, D, Dv + 1] (Dv if not ``normalise``) in
    float32, z in its last column; ``initial_state`` and the state that ``return_state`` adds to the result
    carry a sequence on, one token at a time for generation. All tensors are differentiable, any
    number of times, forwards, and under torch.func (docs/python.md).
    """
    offsets = cu_seqlens if isinstance(cu_seqlens, tuple) else (cu_seqlens, cu_seqlens)
    if decay is not None and decay.dim() == 1:
        packed = cu_seqlens is not None
        decay = decay.expand(key.shape[:2]) if packed else decay[:, None].expand(key.shape[:3])
    arguments = {
        "decay": decay, "beta": beta, "initial_state": initial_state,
        "cu_seqlens_q": offsets[0], "cu_seqlens_k": offsets[1], "feature_map": feature_map,
        "causal": causal, "normalise": normalise, "scale": scale, "eps": eps,
    }  # fmt: skip
    if transformed():
        operator = _LinearAttention(arguments)
        o, _, state = run(operator, *operator.tensors(query, key, value, arguments))
    else:
        o, _, state = OPS.linear_attention(query, key, value, **arguments)
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
    Agrees with the whole sequence to rounding, for every write and decay. Where a graph is recorded, it
    is :func:`linear_attention` of one token, with its gradients.
    """
    return OPS.linear_attention_step(
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
