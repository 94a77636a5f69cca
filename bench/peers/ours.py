"""fovea, through the same operators as a user's."""
import sys
from pathlib import Path


def contestants(case, threads):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))
    import fovea

    q, k, v = case.tensors()
    last = [None]

    def run():
        last[0] = fovea.attention(q, k, v, case.pattern)

    yield "fovea", run, lambda: last[0]
