#!/usr/bin/env python3
"""Times layers over blocks (docs/mechanisms.md) beside windows with as many multiply-adds.

    bench/blocks.py [--lengths 4096 16384] [--steps inference train] [--causal] [--repeat 3]

One layer of 256 features and 4 heads in fp32, feed-forward of 8, one document, by `fovea bench
model`. The time of `window(0)`, which is that of everything but attention, is taken off each; the
least of the repeats counts. Prints a JSON object a row: `attention_ms`, and `ratio` to the window
beside it. Multiply-adds: hmatrix(b) has 4.5 b keys a query in an encoder; moba(b, k) b k, and
T / b scores of blocks; nsa(b, k, w) T / b + b k + w; segment_encoder(s) s and T / s a segment.
"""
import argparse
import json
import subprocess
from pathlib import Path

FOVEA = Path(__file__).resolve().parent.parent / "build/release/bin/fovea"


def pairs(causal, length):
    """(layer, window of as many keys); the choice of blocks counts as half a key each: no values."""
    tail = ",causal" if causal else ""
    def window(keys):
        return f"window({int(keys) - 1},0)" if causal else f"window({int(keys) // 2})"
    blocks, levels = length // 64, 1
    while 64 << levels < length:
        levels += 1
    half = 0.5 if causal else 1  # of all blocks, those before
    yield f"hmatrix(64{tail})", window(96 + 48 * (levels - 1) if causal else 288)
    yield f"moba(64,4{tail})", window(256 - 32 * causal + blocks * half / 2)
    yield f"nsa(64,4,128{tail})", window(blocks * half * 1.5 + 256 - 32 * causal + 128)
    yield f"segment_encoder(128{tail})", window(128 * half + length / 128 / (2 if causal else 128))


def run(attention, length, step, repeat):
    command = [FOVEA, "--threads", "1", "bench", "model", "--attention", attention, "--length", length, "--step", step,
               "--repeat", repeat, "--seconds", 0, "--json", "--vocab", 256, "--model.layers", 1, "--model.model_dim",
               256, "--model.heads", 4, "--model.ff_dim", 8, "--model.max_length", length, "--model.dropout", 0]
    return json.loads(subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--steps", nargs="+", default=["inference", "train"])
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="", help="layers whose text begins with this")
    a = parser.parse_args()
    for length in a.lengths:
        for step in a.steps:
            rest = run("window(0)", length, step, a.repeat)["ms_min"]
            for layer, window in pairs(a.causal, length):
                if not layer.startswith(a.only):
                    continue
                ours, theirs = (run(x, length, step, a.repeat) for x in (layer, window))
                row = {key: ours[key] for key in ("attention", "step", "length", "precision", "threads", "machine", "isa")}
                row["layer_ms"] = round(ours["ms_min"], 2)
                row["attention_ms"] = round(ours["ms_min"] - rest, 2)
                row["bytes_peak"] = ours["bytes_peak"]
                row["window"] = window
                row["window_ms"] = round(theirs["ms_min"] - rest, 2)
                row["ratio"] = round((ours["ms_min"] - rest) / (theirs["ms_min"] - rest), 2)
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
