#!/usr/bin/env python3
"""Times attention forward in fovea, PyTorch, OpenVINO, ONNX Runtime and ggml (llama.cpp) on this machine.

    pip install torch openvino onnxruntime onnx llama-cpp-python      what is missing is left out, and said
    python bench/runtimes.py [--cases bench/cases/runtimes.txt | --case ID ...] > bench/results/runtimes.jsonl

Each runtime keeps threads that spin, so each works alone, in a process of its own; they are visited in
turn, --rounds times. ms_min is the least of all rounds, spread how far the rounds' least times lie apart.
Every output is compared with PyTorch's on the same numbers. Prints one JSON object a line: first the
versions, then one for each case and contestant.
"""
import argparse
import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = {"ours": "torch", "torch_sdpa": "torch", "openvino_sdpa": "openvino", "onnx_runtime": "onnxruntime", "ggml": "llama_cpp"}


def times_of(run, budget_seconds, least=5, most=40):
    for _ in range(2):
        run()
    times, started = [], time.perf_counter()
    while len(times) < least or (len(times) < most and time.perf_counter() - started < budget_seconds):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def child(peer, threads, seconds, ids):
    """Times one peer on all cases; prints a row for each contestant."""
    import torch

    from case import Case
    from peers import torch_sdpa

    torch.set_num_threads(threads)
    module = importlib.import_module(f"peers.{peer}")
    for case_id in ids:
        case = Case(case_id)
        with torch.no_grad():
            _, reference, truth = next(torch_sdpa.contestants(case, threads))
            reference()
            for name, run, output in module.contestants(case, threads):
                times = times_of(run, seconds)
                error = (output().float() - truth().float()).norm() / truth().float().norm()
                bound = 1e-3 if case.dtype == torch.float32 else 2e-2
                if not error < bound:
                    sys.exit(f"{case_id}: {name} differs from torch.sdpa by {error:.1e}")
                print(json.dumps(dict(case=case_id, contestant=name, ms=times, flops=case.flops())), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=Path, default=ROOT / "bench/cases/runtimes.txt")
    parser.add_argument("--case", action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="for each case, round and contestant [1.5]")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    from case import machine_name, read_cases

    ids = args.case or read_cases(args.cases)
    if args.child:
        return child(args.child, args.threads, args.seconds, ids)
    present = [peer for peer, package in PEERS.items() if importlib.util.find_spec(package)]
    for peer in PEERS.keys() - set(present):
        print(f"bench/runtimes.py: {PEERS[peer]} is not installed: left out", file=sys.stderr)
    rows, command = {}, [sys.executable, __file__, "--threads", str(args.threads), "--seconds", str(args.seconds)]
    command += [word for case in ids for word in ("--case", case)]
    environment = dict(os.environ, OMP_NUM_THREADS=str(args.threads))
    for _ in range(args.rounds):
        for peer in present:
            done = subprocess.run([*command, "--child", peer], env=environment, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                print(f"bench/runtimes.py: {peer} ended with exit code {done.returncode}", file=sys.stderr)
            for line in done.stdout.splitlines():
                row = json.loads(line)
                kept = rows.setdefault((row["case"], row["contestant"]), dict(flops=row["flops"], ms=[], least=[]))
                kept["ms"] += row["ms"]
                kept["least"].append(min(row["ms"]))
    versions = {}
    for package in ("torch", "openvino", "onnxruntime", "llama_cpp_python"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    print(json.dumps(dict(machine=machine_name(), threads=args.threads, rounds=args.rounds, versions=versions,
                          date=time.strftime("%F"))))
    for (case_id, name), row in rows.items():
        best = min(row["ms"])
        print(json.dumps(dict(case=case_id, contestant=name, ms_min=round(best, 3),
                              ms_median=round(sorted(row["ms"])[len(row["ms"]) // 2], 3), turns=len(row["ms"]),
                              spread=round(max(row["least"]) / min(row["least"]), 3),
                              gflops=round(row["flops"] / best / 1e6, 1))))


if __name__ == "__main__":
    main()
