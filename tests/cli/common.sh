# Sourced by the tests of the command line: common.sh; $1 of each test is the program.
set -u
fovea=$1
work=$(mktemp -d "${TMPDIR:-/tmp}/fovea-cli.XXXXXX")
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
  echo "FAIL: $*"
  failures=$((failures + 1))
}

finish() {
  [ "$failures" -eq 0 ] || { echo "$failures failed"; exit 1; }
  echo "all passed"
  exit 0
}

# toy COUNT SEED > file.jsonl: which of three words occurs decides the label.
toy() {
  awk -v n="$1" -v seed="$2" 'BEGIN {
    srand(seed)
    split("amber bronze cobalt", key, " ")
    split("the of and to in is that it was for on are as with his they at be this from", noise, " ")
    for (i = 1; i <= n; ++i) {
      k = 1 + int(rand() * 3)
      length_ = 8 + int(rand() * 30)
      at = 1 + int(rand() * length_)
      text = ""
      for (w = 1; w <= length_; ++w) {
        text = text (w > 1 ? " " : "") (w == at ? key[k] : noise[1 + int(rand() * 20)])
      }
      printf "{\"id\": %d, \"text\": \"%s\", \"label\": \"%s\"}\n", i, text, toupper(key[k])
    }
  }'
}

# A model small enough to train in a second.
tiny="--model.layers 1 --model.model_dim 16 --model.heads 2 --model.ff_dim 32 --max-length 64
      --attention window(4)|global(1) --tokenizer.kind word --train.lr 0.01
      --train.batch_tokens 512 --train.micro_tokens 256"
