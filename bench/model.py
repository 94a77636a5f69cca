#!/usr/bin/env python3
"""Times a whole model beside Hugging Face's ModernBERT of the same shape, in turns on one machine.

    .venv/bin/python bench/model.py [--lengths 1024 8192] [--turns 3]      needs: pip install transformers

The shape: 6 layers of 256 features, 4 heads, GeGLU of 512, rotary positions, every third layer full
attention and the others a window of 64 tokens to each side, vocabulary 8,192, 4 classes, one
document. Theirs is ModernBertForSequenceClassification with torch's scaled_dot_product_attention;
ours is `fovea bench model`. Random weights. `inference` is a forward; `train` a forward, backward
and AdamW step. bf16: theirs has bf16 weights for inference and autocast for training, ours autocast
for both. One call of each in turn, after a first one, `--turns` times; the least time counts. Prints
a JSON object for the machine, then one for each contestant.
"""
import argparse
import datetime
import json
import os
import subprocess
import time
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).resolve().parent.parent
SHAPE = ["--model.layers", "6", "--model.model_dim", "256", "--model.heads", "4", "--model.ff_dim", "512",
         "--model.activation", "geglu", "--model.dropout", "0", "--attention", "full, window(64)*2",
         "--vocab", "8192"]


def hugging_face():
    return transformers.ModernBertForSequenceClassification(transformers.ModernBertConfig(
        vocab_size=8192, hidden_size=256, intermediate_size=512, num_hidden_layers=6,
        num_attention_heads=4, local_attention=128, global_attn_every_n_layers=3, num_labels=4,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
        attn_implementation="sdpa"))


def their_call(step, length, bf16):
    torch.manual_seed(0)
    model = hugging_face()
    ids = torch.randint(3, 8000, (1, length))
    if step == "inference":
        model.eval().to(torch.bfloat16 if bf16 else torch.float32)
        return torch.inference_mode()(lambda: model(input_ids=ids))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    target = torch.tensor([1])

    def train():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(input_ids=ids, labels=target).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return train


def our_time(args, step, length, precision):
    out = subprocess.run(
        [args.program, "--threads", str(args.threads), "bench", "model", *SHAPE, "--model.max_length",
         str(length), "--length", str(length), "--step", step, "--precision", precision, "--repeat", "2",
         "--seconds", "0", "--json"], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)


def compare(args, step, length, precision):
    call = their_call(step, length, precision == "bf16")
    call()
    theirs, ours = [], []
    for _ in range(args.turns):
        start = time.perf_counter()
        call()
        theirs.append((time.perf_counter() - start) * 1e3)
        row = our_time(args, step, length, precision)
        ours.append(row["ms_min"])
    common = dict(model="modernbert-6x256", step=step, length=length, precision=precision, turns=args.turns)
    for name, times in (("fovea", ours), ("transformers", theirs)):
        yield dict(**common, contestant=name, ms_min=round(min(times), 1), ms_max=round(max(times), 1),
                   tokens_per_second=round(length / min(times) * 1e3),
                   ratio=round(min(theirs) / min(times), 2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 8192])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/fovea"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine = our_time(args, "inference", 64, "fp32")
    print(json.dumps(dict(
        machine=machine["machine"], isa=machine["isa"], threads=args.threads, torch=torch.__version__,
        transformers=transformers.__version__, date=datetime.date.today().isoformat())), flush=True)
    for step in ("inference", "train"):
        for length in args.lengths:
            for precision in ("fp32", "bf16"):
                for row in compare(args, step, length, precision):
                    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
