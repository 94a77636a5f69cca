#!/usr/bin/env python3
"""How much of the machine's read bandwidth decoding reaches, per storage type of the cache.

    .venv/bin/python bench/decode.py [--keys 32768] [--rows 1 4 8] [--turns 15] [--threads 1]

One token of one sequence against a cache of at least four times the last-level cache. The read
bandwidth is torch.sum over a float32 tensor of as many bytes, in the same run: reader and decoder
take turns. With one thread, times are CPU times, which other processes on the machine disturb less.
`rows` are the query heads of a key head. Prints one JSON object a line: GB/s of the best turn and of
the median, and their share of torch.sum's.
"""
import argparse
import datetime
import json
import statistics
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "int8": torch.int8}


def last_level_cache():
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max((int(s.read_text().strip()[:-1]) << 10 for s in sizes), default=32 << 20)


def timed(function, clock):
    start = clock()
    function()
    return clock() - start


def decode_call(dtype, keys, rows, dim, bytes_wanted):
    """A closure and the bytes it reads."""
    import fovea

    size = DTYPES[dtype].itemsize
    heads = -(-bytes_wanted // (2 * keys * dim * size))
    k, v = (torch.randn(1, heads, keys, dim) for _ in range(2))
    q = torch.randn(1, heads * rows, 1, dim)
    lengths, read = torch.tensor([keys]), 2 * heads * keys * dim * size
    if dtype == "int8":
        (k, k_scales), (v, v_scales) = map(fovea.quantise_rows, (k, v))
        read += k_scales.nbytes + v_scales.nbytes
        return lambda: fovea.attention_decode(
            q, k, v, lengths, k_scales=k_scales, v_scales=v_scales), read
    q, k, v = (x.to(DTYPES[dtype]) for x in (q, k, v))
    return lambda: fovea.attention_decode(q, k, v, lengths), read


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--keys", type=int, default=32768)
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.threads == 1 else time.perf_counter
    torch.manual_seed(0)
    for dtype in args.dtypes:
        for dim in args.dims:
            for rows in args.rows:
                decode, size = decode_call(dtype, args.keys, rows, dim, 4 * last_level_cache())
                memory = torch.randn(size // 4)
                calls = {"decode": decode, "read": lambda: torch.sum(memory)}
                times = {name: [] for name in calls}
                for turn in range(args.turns + 2):
                    for name, call in calls.items():
                        times[name].append(timed(call, clock))
                times = {name: values[2:] for name, values in times.items()}
                rate = lambda name, of: size / of(times[name]) / 1e9
                print(json.dumps(dict(
                    cache=dtype, keys=args.keys, dim=dim, rows=rows, threads=args.threads,
                    mbytes=size >> 20, gbytes_s=round(rate("decode", min), 2),
                    gbytes_s_median=round(rate("decode", statistics.median), 2),
                    read_gbytes_s=round(rate("read", min), 2),
                    percent=round(100 * rate("decode", min) / rate("read", min), 1),
                    percent_median=round(100 * rate("decode", statistics.median)
                                         / rate("read", statistics.median), 1),
                    date=datetime.date.today().isoformat())), flush=True)


if __name__ == "__main__":
    main()
