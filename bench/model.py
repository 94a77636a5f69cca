#!/usr/bin/env python3
"""Times whole models beside Hugging Face's of the same shape, in turns on one machine.

    .venv/bin/python bench/model.py [--models modernbert-6x256 ...] [--lengths 1024 8192] [--turns 3]
                                                              needs: pip install transformers

modernbert-6x256    6 layers of 256 features, 4 heads, GeGLU of 512, rotary positions, every third layer
                    full attention, the others a window of 64 tokens to each side
modernbert-22x768   ModernBERT-base: 22 layers of 768 features, 12 heads, GeGLU of 1,152; inference only
longformer-6x256    6 layers of 256 features, 4 heads, GELU of 512, learned positions, a window of 128
                    tokens to each side, the first token global (Hugging Face projects global tokens
                    apart, with weights of their own; ours do not)

Vocabulary 8,192, 4 classes, one document, random weights. Theirs is ...ForSequenceClassification,
ModernBERT with torch's scaled_dot_product_attention; ours is `fovea bench model`. `inference` is a
forward; `train` a forward, backward and AdamW step. bf16: theirs has bf16 weights for inference and
autocast for training, ours autocast for both. One call of each in turn, after a first one, `--turns`
times; the least time counts. Prints a JSON object for the machine, then one for each contestant.
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
COMMON = dict(vocab_size=8192, num_labels=4)


def modernbert(layers, model_dim, heads, ff_dim):
    config = transformers.ModernBertConfig(
        **COMMON, hidden_size=model_dim, intermediate_size=ff_dim, num_hidden_layers=layers,
        num_attention_heads=heads, local_attention=128, global_attn_every_n_layers=3,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
        attn_implementation="sdpa")
    return transformers.ModernBertForSequenceClassification(config), {}


def longformer(length):
    config = transformers.LongformerConfig(
        **COMMON, hidden_size=256, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4,
        attention_window=256, max_position_embeddings=length + 2)
    first = torch.zeros(1, length, dtype=torch.long)
    first[0, 0] = 1
    return transformers.LongformerForSequenceClassification(config), dict(global_attention_mask=first)


def shape(layers, model_dim, heads, ff_dim, attention, *more):
    return ["--model.layers", layers, "--model.model_dim", model_dim, "--model.heads", heads, "--model.ff_dim",
            ff_dim, "--model.dropout", 0, "--vocab", 8192, "--attention", attention, *more]


# name: (theirs: length -> model and arguments, ours: flags, steps)
MODELS = {
    "modernbert-6x256": (lambda length: modernbert(6, 256, 4, 512),
                         shape(6, 256, 4, 512, "full, window(64)*2", "--model.activation", "geglu"),
                         ("inference", "train")),
    "modernbert-22x768": (lambda length: modernbert(22, 768, 12, 1152),
                          shape(22, 768, 12, 1152, "full, window(64)*2", "--model.activation", "geglu"),
                          ("inference",)),
    "longformer-6x256": (longformer, shape(6, 256, 4, 512, "window(128)|global(1)", "--model.positions", "learned",
                                           "--model.norm", "post"), ("inference", "train")),
}


def their_call(model_name, step, length, bf16):
    torch.manual_seed(0)
    model, arguments = MODELS[model_name][0](length)
    ids = torch.randint(3, 8000, (1, length))
    if step == "inference":
        model.eval().to(torch.bfloat16 if bf16 else torch.float32)
        return torch.inference_mode()(lambda: model(input_ids=ids, **arguments))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    target = torch.tensor([1])

    def train():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(input_ids=ids, labels=target, **arguments).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return train


def our_time(args, model_name, step, length, precision):
    command = [args.program, "--threads", args.threads, "bench", "model", *MODELS[model_name][1], "--model.max_length",
               length, "--length", length, "--step", step, "--precision", precision, "--repeat", 2, "--seconds", 0,
               "--json"]
    out = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)


def compare(args, model_name, step, length, precision):
    call = their_call(model_name, step, length, precision == "bf16")
    call()
    theirs, ours = [], []
    for _ in range(args.turns):
        start = time.perf_counter()
        call()
        theirs.append((time.perf_counter() - start) * 1e3)
        row = our_time(args, model_name, step, length, precision)
        ours.append(row["ms_min"])
    common = dict(model=model_name, step=step, length=length, precision=precision, turns=args.turns)
    for name, times in (("fovea", ours), ("transformers", theirs)):
        yield dict(**common, contestant=name, ms_min=round(min(times), 1), ms_max=round(max(times), 1),
                   tokens_per_second=round(length / min(times) * 1e3),
                   ratio=round(min(theirs) / min(times), 2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=("fp32", "bf16"))
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 8192])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/fovea"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine = our_time(args, "modernbert-6x256", "inference", 64, "fp32")
    print(json.dumps(dict(
        machine=machine["machine"], isa=machine["isa"], threads=args.threads, torch=torch.__version__,
        transformers=transformers.__version__, date=datetime.date.today().isoformat())), flush=True)
    for model_name in args.models:
        for step in MODELS[model_name][2]:
            for length in args.lengths:
                for precision in args.precisions:
                    for row in compare(args, model_name, step, length, precision):
                        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
