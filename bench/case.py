"""The case ids that other systems can run too: fovea's own language (docs/architecture.md) without
score modifications and packed documents; and the machine's name."""
import re
import sys

import torch

CASE = re.compile(
    r"b(?P<b>\d+)_h(?P<h>\d+)(?:_kv(?P<kv>\d+))?_q(?P<q>\d+)_k(?P<k>\d+)_d(?P<d>\d+)"
    r"_(?P<dtype>f32|bf16|f16)_(?P<pattern>full|causal|(?:window|causal)\d+)_(?P<pass>fwd|bwd)"
)
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


class Case:
    def __init__(self, case_id):
        match = CASE.fullmatch(case_id)
        if not match:
            sys.exit(f"bench/attention.py: case {case_id!r} is not one that PyTorch can run; "
                     f"expected b1_h12_q2048_k2048_d64_f32_full_fwd and its kin")
        self.id = case_id
        self.b, self.h, self.q, self.k, self.d = (int(match[x]) for x in "bhqkd")
        self.kv = int(match["kv"] or self.h)
        self.dtype = DTYPES[match["dtype"]]
        self.name, self.backward = match["pattern"], match["pass"] == "bwd"
        width = re.search(r"\d+$", self.name)
        self.kind = re.match(r"[a-z]+", self.name)[0]
        self.width = int(width[0]) if width else None
        if self.kind == "causal" and self.width:
            self.pattern = f"window({self.width - 1},0)"
        elif self.kind == "window":
            self.pattern = f"window({self.width},{self.width})"
        else:
            self.pattern = self.kind

    def mask(self):
        """Dense boolean mask, or None where SDPA needs none."""
        if self.width is None:
            return None
        distance = torch.arange(self.q)[:, None] + (self.k - self.q) - torch.arange(self.k)[None]
        if self.kind == "causal":
            return (distance >= 0) & (distance < self.width)
        return distance.abs() <= self.width

    def pairs(self):
        """Pairs that the pattern allows; row i stands at key i + k - q."""
        def below(reach):  # Σ over rows of the keys up to i + k - q + reach, clipped to [0, k]
            first = self.k - self.q + reach + 1  # of row 0, unclipped
            skipped = min(max(-first, 0), self.q)
            grown = min(max(self.k - first, 0), self.q)  # rows before all keys are seen
            return (grown - skipped) * first + (grown * (grown - 1) - skipped * (skipped - 1)) // 2 + (
                self.q - grown) * self.k

        if self.kind == "full":
            return self.q * self.k
        if self.kind == "causal":
            return below(0) - (below(-self.width) if self.width else 0)
        return below(self.width) - below(-self.width - 1)

    def flops(self):
        return (10 if self.backward else 4) * self.pairs() * self.d * self.b * self.h

    def tensors(self):
        """q, k, v of the case, the same for every contestant: normal, rounded to bf16 first."""
        torch.manual_seed(0)
        shapes = [(self.b, self.h, self.q, self.d)] + 2 * [(self.b, self.kv, self.k, self.d)]
        return [torch.randn(shape).bfloat16().to(self.dtype) for shape in shapes]


def read_cases(path):
    """Case ids of a file, one a line; # starts a comment."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def machine_name():
    """The processor's name, as results give it."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
