#!/usr/bin/env bash
# Attention is what does the work: documents whose class is the value of one pair, 20 words or more from the first word,
# where the answer is read off. Three layers of window(4) see 12 words.
. "$(dirname "$0")/common.sh"
examples=$(cd "$(dirname "$0")/../../examples" && pwd)
cd "$work" || exit 1
"$fovea" data recall --out data --length 64 --min-distance 20 --train 12000 --valid 250 --test 1000 ||
  fail "data recall"

# accuracy ATTENTION EPOCHS: on the test file, after training
accuracy() {
  "$fovea" --threads 1 train --config "$examples/recall/config.toml" --train data/train.jsonl --valid data/valid.jsonl \
    --out model --overwrite --attention "$1" --train.epochs "$2" --train.batch_tokens 4096 --train.lr 3e-3 --train.precision fp32 2> err.txt ||
    { cat err.txt; fail "train with $1"; }
  "$fovea" --threads 1 eval --model model --data data/test.jsonl --json | sed 's/.*"accuracy":\([0-9.]*\).*/\1/'
}

for attention in 'window(4)|global(1)' full; do
  a=$(accuracy "$attention" 7)
  echo "$attention: $a"
  awk -v a="$a" 'BEGIN { exit !(a >= 0.99) }' || fail "$attention: accuracy $a, expected 0.99 or more"
done
# Four standard deviations of 1,000 guesses among four classes are 0.055.
for attention in 'window(4)' 'window(0,0)'; do
  a=$(accuracy "$attention" 2)
  echo "$attention: $a"
  awk -v a="$a" 'BEGIN { exit !(a < 0.305) }' || fail "$attention: accuracy $a, expected chance, 0.25"
done
finish
