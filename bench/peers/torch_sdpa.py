"""PyTorch's scaled_dot_product_attention; a boolean mask where the pattern needs one."""
import torch.nn.functional as F


def contestants(case, threads):
    q, k, v = case.tensors()
    mask = case.mask()
    last = [None]

    def run():
        last[0] = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=case.kind == "causal" and mask is None,
                                                 enable_gqa=case.kv != case.h)

    yield "torch.sdpa", run, lambda: last[0]
