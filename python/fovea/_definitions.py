"""The operators' definitions in plain torch operations: what second derivatives are made of.

They hold the whole matrix of scores. float16 and bfloat16 are computed in float32.
"""

import math

import torch
import torch.nn.functional as F

OPS = torch.ops.fovea


def _wide(x):
    return x if x is None or x.dtype == torch.float64 else x.float()


def softmax_attention(
    pattern, options, q, k, v, bias, distance_bias, sinks, scales, additive, slopes, key_lengths,
    intervals, block_mask, global_tokens, cu_q, cu_k,
):  # fmt: skip
    """(o, lse) of docs/scores.md; ``options`` are the arguments that are not tensors."""
    softcap, dropout_p = options["softcap"], options["dropout_p"]
    packed = cu_q is not None
    if packed:
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    dtype = q.dtype
    group = q.shape[1] // k.shape[1]
    q, k, v, bias, distance_bias, sinks, scales, additive, slopes = map(
        _wide, (q, k, v, bias, distance_bias, sinks, scales, additive, slopes)
    )
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    shape = (*q.shape[:3], k.shape[2])
    mask, positions = OPS.pattern_mask(
        torch.empty(0), pattern, *shape, top_left=options["top_left"], key_lengths=key_lengths,
        intervals=intervals, block_mask=block_mask, global_tokens=global_tokens,
        cu_seqlens_q=cu_q, cu_seqlens_k=cu_k,
    )  # fmt: skip
    # What no pair uses reaches nothing, NaN or not.
    unused = ~mask.any(-2).unsqueeze(-1)
    q, k, v = q.masked_fill(~mask.any(-1, True), 0), k.masked_fill(unused, 0), v.masked_fill(unused, 0)

    with torch.autocast("cpu", enabled=False):
        if options["cosine"]:
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        if additive is None:
            scale = q.shape[-1] ** -0.5 if options["scale"] is None else options["scale"]
            s = q @ k.transpose(-1, -2) * (scale if scales is None else scales[:, None, None])
        else:
            w = additive[..., None, None, :]  # [H|1, 1, 1, D], or [1, 1, D] for all heads
            s = (w * torch.tanh(q[..., :, None, :] + k[..., None, :, :])).sum(-1)
        if options["negative_slope"] != 1:
            s = F.leaky_relu(s, options["negative_slope"])
        if softcap > 0:
            s = softcap * torch.tanh(s / softcap)
        if bias is not None:
            s = s + bias
        distance = torch.arange(shape[3]) - positions[:, None]
        if distance_bias is not None:
            m = distance_bias.shape[-1] // 2
            s = s + distance_bias[..., distance.clamp(-m, m) + m]
        if slopes is not None:
            s = s - slopes[:, None, None] * distance.abs()
        s = s.masked_fill(~mask, -math.inf)
        # A row that sees nothing takes scores of 0 on the way, so that no derivative is NaN.
        dead = (s == -math.inf).all(-1)
        lse = s.masked_fill(dead[..., None], 0).logsumexp(-1)
        if sinks is not None:
            lse = torch.logaddexp(lse, sinks[:, None])
        weights = (s - lse[..., None]).exp()
        if dropout_p > 0:
            kept = OPS.attention_dropout_mask(
                torch.empty(0), dropout_p, options["dropout_seed"], *shape
            )
            weights = weights * kept / (1 - dropout_p)
        o = (weights @ v).to(dtype)
        lse = lse.masked_fill(dead, -math.inf)
    return (o[0].transpose(0, 1), lse[0]) if packed else (o, lse)


_FEATURES = {"identity": lambda x: x, "elu+1": lambda x: F.elu(x) + 1, "relu": F.relu}


def linear_attention(options, q, k, v, decay, beta, initial_state, cu_q, cu_k):
    """(o, denominator, final_state) of linear attention by its quadratic form.

    A token n of a sequence sees token m <= n by exp(g_n - g_m), g the sum of decays up to each, and
    the initial state by exp(g_n). A decay for each channel takes memory of S^2 D.
    """
    packed = cu_q is not None
    if packed:
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        decay, beta = (None if x is None else x.transpose(0, 1)[None] for x in (decay, beta))
        initial_state = None if initial_state is None else initial_state[None]
    else:
        cu_q, cu_k = (torch.tensor([0, x.shape[2]]) for x in (q, k))
        initial_state = None if initial_state is None else initial_state[:, None]
    dtype = q.dtype
    q, k, v, decay, beta, initial_state = map(_wide, (q, k, v, decay, beta, initial_state))
    # owns[n, t]: row t is of sequence n.
    owns_q, owns_k = (
        (torch.arange(x.shape[2]) >= cu[:-1, None]) & (torch.arange(x.shape[2]) < cu[1:, None])
        for x, cu in ((q, cu_q), (k, cu_k))
    )
    sees = (owns_q[:, :, None] & owns_k[:, None, :]).any(0)
    if options["causal"]:
        sees = sees.tril()

    with torch.autocast("cpu", enabled=False):
        q, k = (_FEATURES[options["feature_map"]](x) for x in (q, k))
        if options["normalise"]:  # the denominator is one more column of the state
            v = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)
        # What a token gives to its sequence's last state, and takes from its first: [B, H, N, T, C]
        # where C is D if there is a decay for each channel, else 1.
        to_last, from_first = (
            x.to(q.dtype)[..., None].expand(*q.shape[:2], -1, -1, -1) for x in (owns_k, owns_q)
        )
        between, kept = sees.to(q.dtype)[..., None], 1.0
        if decay is not None:
            decay = decay if decay.dim() == 4 else decay[..., None]
            g = decay.cumsum(2)
            difference = g[:, :, :, None] - g[:, :, None]
            between = between * difference.masked_fill(~sees[..., None], 0).exp()
            total = (owns_k[..., None] * decay[:, :, None]).sum(3, keepdim=True)
            own = g[:, :, None] - (total.cumsum(2) - total)
            to_last = to_last * (total - own).masked_fill(~owns_k[..., None], 0).exp()
            from_first = from_first * own.masked_fill(~owns_q[..., None], 0).exp()
            kept = total[:, :, :, 0, :, None].transpose(1, 2).exp()

        def read(rows):  # of what was written at each token
            if between.shape[-1] > 1:
                return torch.einsum("bhtd,bhsd,bhtsd->bhts", rows, k, between)
            return (rows @ k.transpose(-1, -2)) * between[..., 0]

        def read_first(rows):
            return torch.einsum("bhntd,bhtd,bnhde->bhte", from_first, rows, initial_state)

        if beta is not None:
            # What is written, w_t = beta_t (v_t - S'^T k_t), is the solution of a triangular system.
            if initial_state is not None:
                v = v - read_first(k)
            earlier = (beta[..., None] * read(k)).tril(-1)
            v = torch.linalg.solve_triangular(
                earlier + torch.eye(k.shape[2], dtype=k.dtype), beta[..., None] * v, upper=False
            )
        o = read(q) @ v
        state = torch.einsum("bhntd,bhtd,bhte->bnhde", to_last, k, v)
        if initial_state is not None:
            o = o + read_first(q)
            state = state + kept * initial_state
        if options["normalise"]:
            denominator = o[..., -1] + options["eps"]
            o = o[..., :-1] / denominator[..., None]
        else:
            denominator = o.new_empty(0)
            o = options["scale"] * o
    o = o.to(dtype)
    if not packed:
        return o, denominator, state[:, 0]
    return o[0].transpose(0, 1), denominator[0] if options["normalise"] else denominator, state[0]
