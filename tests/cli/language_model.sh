#!/usr/bin/env bash
# A language model, through the program alone: training, evaluation, resumption, and what is refused.
. "$(dirname "$0")/common.sh"
cd "$work" || exit 1

# cycle COUNT SEED: 40 letters of a cycle of eight, from any of them on.
cycle() {
  awk -v n="$1" -v seed="$2" 'BEGIN {
    srand(seed)
    for (i = 0; i < n; ++i) {
      at = int(rand() * 8)
      text = ""
      for (k = 0; k < 40; ++k) text = text substr("fovealm.", 1 + (at + k) % 8, 1)
      print text
    }
  }'
}
cycle 300 1 > train.txt
cycle 40 2 > valid.txt
# shellcheck disable=SC2206
lm=("$fovea" --threads 1 train --task lm --model.layers 2 --model.model_dim 32 --model.heads 2
  --model.ff_dim 64 --max-length 64 --tokenizer.kind byte --train.lr 0.01
  --train.batch_tokens 512 --train.micro_tokens 256 --model.dropout 0)

value() { sed 's/.*"'"$1"'":\([0-9.e+-]*\).*/\1/' "$2"; }

# The first letter is one of 8; where a text ends takes ln 41 + 1 nats of one who cannot count. So a
# model that knows the cycle has a perplexity of exp((ln 8 + ln 41 + 1) / 41) = 1.18 or less.
printf 'fovealm.fove\n' > prompt.txt
for attention in 'moba(4,3,causal), nsa(4,3,4,causal)' auto 'window(4,0), linear(causal)' \
  'window(3,0)+linear(causal), gate(window(3,0)+linear(causal))'; do
  "${lm[@]}" --train train.txt --valid valid.txt --attention "$attention" --train.epochs 6 \
    --out model --overwrite > out.txt 2> err.txt || { cat err.txt; fail "train with $attention"; }
  [ -s out.txt ] && fail "train writes to stdout"
  "$fovea" eval --model model --data valid.txt --json > eval.json 2> err.txt ||
    { cat err.txt; fail "eval with $attention"; }
  for key in loss perplexity accuracy bits_per_byte targets documents pieces tokens; do
    grep -q "\"$key\":" eval.json || fail "eval --json has no $key"
  done
  echo "$attention: perplexity $(value perplexity eval.json)"
  awk -v p="$(value perplexity eval.json)" 'BEGIN { exit !(p < 1.25) }' ||
    fail "$attention: perplexity $(value perplexity eval.json), expected below 1.25"
  [ "$(value targets eval.json)" = $((40 * 41)) ] || fail "targets: $(cat eval.json)"
  "$fovea" generate --model model --max-tokens 20 prompt.txt > out.jsonl 2> err.txt ||
    { cat err.txt; fail "generate with $attention"; }
  grep -q "computes the whole text" err.txt && fail "no cache or state with $attention"
  "$fovea" generate --model model --max-tokens 20 --recompute prompt.txt 2> err.txt | cmp -s - out.jsonl ||
    fail "generate --recompute with $attention"
done
"$fovea" eval --model model --data valid.txt 2> err.txt | grep -q "^perplexity  *1\." || fail "eval as text"
"$fovea" info --model model | grep -q "attention of layer 1 *gate(window(3,0)+linear(causal))$" || fail "info"
grep -q "next token" model/README.md || fail "the model card does not tell the task"
grep -q '"perplexity"' model/log.jsonl || fail "log.jsonl has no perplexity"

# The cycle goes on, by cache and state as by the whole text; where it ends is the model's guess.
printf 'fovealm.fove\nalm.fovealm.\n' > prompts.txt
for attention in auto 'window(4,0), linear(causal)' 'deltanet, window(2,0)'; do
  "${lm[@]}" --train train.txt --valid valid.txt --attention "$attention" --train.epochs 6 \
    --out generator --overwrite 2> err.txt || { cat err.txt; fail "train with $attention"; }
  "$fovea" --threads 1 generate --model generator --max-tokens 16 < prompts.txt > out.jsonl 2> err.txt ||
    { cat err.txt; fail "generate with $attention"; }
  cat > expected.jsonl << 'END'
{"completion":"alm.fovealm.fove","tokens":16,"finish":"max_tokens","truncated_tokens":0}
{"completion":"fovealm.fovealm.","tokens":16,"finish":"max_tokens","truncated_tokens":0}
END
  cmp -s out.jsonl expected.jsonl || fail "generate with $attention: $(cat out.jsonl)"
  grep -q "2 prompts, 32 tokens of completions" err.txt || fail "generate tells no rate: $(cat err.txt)"
  "$fovea" --threads 2 generate --model generator --max-tokens 16 --recompute prompts.txt 2> err.txt |
    cmp -s - expected.jsonl || fail "generate --recompute with $attention"
done
# Prompts as JSON, with an id; one too long for the model; the end of a text; the model's length.
long=$(printf 'fovealm.%.0s' $(seq 10))
printf '{"id": 7, "prompt": "fovealm."}\n{"text": "%s"}\n' "$long" |
  "$fovea" generate --model generator --max-tokens 1000 > out.jsonl 2> err.txt || { cat err.txt; fail "generate from JSON"; }
grep -q '^{"id":7,"completion":"fovealm\.f.*"finish":"\(end\|max_length\)","truncated_tokens":0}$' out.jsonl ||
  fail "id, end: $(cat out.jsonl)"
tail -n 1 out.jsonl | grep -q '"tokens":[01],.*"truncated_tokens":18}$' || fail "truncation: $(tail -n 1 out.jsonl)"
"$fovea" generate --model generator --max-tokens 3 --format file --precision bf16 prompts.txt > out.jsonl 2> err.txt ||
  { cat err.txt; fail "generate --format file"; }
grep -q '"id":".*prompts.txt","completion":' out.jsonl || fail "path as id: $(cat out.jsonl)"
# What was read before a fault is answered.
printf '{"text": "fove"}\n{"text": ""}\n' > hole.jsonl
"$fovea" generate --model generator hole.jsonl > out.jsonl 2> err.txt && fail "an empty prompt is taken"
[ "$(wc -l < out.jsonl)" = 1 ] || fail "no answer before the fault"
# A layer whose tokens see others as the text grows: said, and right all the same.
"${lm[@]}" --train train.txt --valid valid.txt --attention 'causal & neighbourhood(9)' --train.max_steps 2 \
  --out grown --overwrite 2> err.txt || { cat err.txt; fail "train with neighbourhood"; }
"$fovea" generate --model grown --max-tokens 4 prompts.txt > out.jsonl 2> err.txt || { cat err.txt; fail "neighbourhood"; }
grep -q "computes the whole text for each token" err.txt || fail "recomputation is not told"
"$fovea" generate --model grown --max-tokens 4 --recompute prompts.txt 2> err.txt | cmp -s - out.jsonl || fail "neighbourhood"

# Toy languages: a word a token, and the answer is a completion.
"$fovea" data sequences --task recall --out recall.jsonl --count 20 --symbols 4 --length 20 2> err.txt || { cat err.txt; fail "data sequences"; }
awk -F '"' '{
  split($4, words, " "); answer = ""
  for (i = 1; i <= 8; i += 2) if (words[i] == words[length(words)]) answer = words[i + 1]
  if (answer != $8) exit 1
}' recall.jsonl || fail "recall: $(head -n 1 recall.jsonl)"
for task in copy induction; do
  "$fovea" data sequences --task $task --out $task.jsonl --count 20 2> err.txt || { cat err.txt; fail "data sequences --task $task"; }
done
"$fovea" --threads 1 train --task lm --train copy.jsonl --out copy --tokenizer.kind word --max-length 64 --model.layers 1 \
  --model.model_dim 16 --model.heads 2 --model.ff_dim 32 --train.max_steps 2 2> err.txt || { cat err.txt; fail "train on copies"; }
grep -q "the loss is that of the completions" err.txt || fail "completions of sequences are not told"

# Long texts are cut, and that is said; whole files; prompts with completions; a missing --valid.
tr -d '\n' < train.txt > long.txt
"${lm[@]}" --train long.txt --format file --valid valid.txt --out file --train.max_steps 2 2> err.txt ||
  { cat err.txt; fail "--format file"; }
grep -q "1 longer than 64 tokens are cut, 191 pieces" err.txt || fail "the cut is not told: $(cat err.txt)"
for i in $(seq 40); do printf '{"prompt": "%d+1=", "completion": "%d"}\n' "$i" $((i + 1)); done > sums.jsonl
"${lm[@]}" --train sums.jsonl --out sums --tokenizer.kind bpe --tokenizer.vocab_size 280 \
  --model.tie_embeddings false --train.max_steps 2 2> err.txt || { cat err.txt; fail "prompts"; }
grep -q "the loss is that of the completions" err.txt || fail "completions are not told"
grep -q "are set apart" err.txt || fail "the split is not told"
"$fovea" info --model sums | grep -q "^  output  " || fail "info: no output projection of its own"

# Stopped at a checkpoint and resumed: the same bits as a run that was left alone.
run=("${lm[@]}" --train train.txt --valid valid.txt --train.epochs 2 --model.dropout 0.1 --train.log_every 1)
"${run[@]}" --out whole 2> err.txt || { cat err.txt; fail "uninterrupted run"; }
"${run[@]}" --save-every 2 --out stopped 2> err.txt &
pid=$!
while [ ! -e stopped/checkpoints/step-6 ] && [ ! -e stopped/checkpoints/step-8 ] && kill -0 $pid 2> /dev/null; do
  sleep 0.02
done
kill -9 $pid 2> /dev/null
wait $pid 2> /dev/null
"$fovea" --threads 1 train --resume --out stopped 2> err.txt || { cat err.txt; fail "resume"; }
cmp -s whole/model.safetensors stopped/model.safetensors || fail "the resumed run has other weights"

# From a model: its shape, its tokenizer, its task.
"$fovea" --threads 1 train --init whole --train train.txt --out same --train.lr 0 --train.max_steps 1 2> err.txt ||
  { cat err.txt; fail "train --init"; }
cmp -s whole/model.safetensors same/model.safetensors || fail "--init changed the weights at rate 0"

# refused CODE TEXT... -- COMMAND...
refused() {
  local texts=()
  while [ "$1" != -- ]; do texts+=("$1"); shift; done
  shift
  rm -rf refused
  "$@" > out.txt 2> err.txt < /dev/null
  local got=$?
  [ $got = 2 ] || fail "exit code $got, expected 2: $* ($(tail -n 2 err.txt))"
  for text in "${texts[@]}"; do
    grep -qF -- "$text" err.txt || fail "no \"$text\" in the message of: $* ($(tail -n 3 err.txt))"
  done
}
: > empty.txt
printf 'one\n' > one.txt
lm+=(--out refused)
refused '"full" in layer 0' 'use "causal"' -- "${lm[@]}" --train train.txt --attention full
refused 'in layer 1' 'use "causal & (' -- "${lm[@]}" --train train.txt --attention 'causal, window(8)|global(1)'
refused 'use "window(4,0)+linear(causal)"' -- "${lm[@]}" --train train.txt --attention 'window(4)+linear'
refused 'use "linear(causal)"' -- "${lm[@]}" --train train.txt --attention linear
refused 'use "moba(4,3,causal)"' -- "${lm[@]}" --train train.txt --attention 'moba(4,3)'
refused "empty.txt" "no text" -- "${lm[@]}" --train empty.txt --valid valid.txt
refused "valid.txt" -- "${lm[@]}" --train train.txt --valid nowhere/valid.txt
refused "one.txt" "--valid" -- "${lm[@]}" --train one.txt
refused "train.metric" "loss and accuracy" -- "${lm[@]}" --train train.txt --train.metric macro_f1
refused "max_length" -- "${lm[@]}" --train train.txt --max-length 1
refused "train.task" "expected one of classify, lm" -- "${lm[@]}" --task translate --train train.txt
refused "fovea_language_model" "text classifier" -- "$fovea" predict --model whole valid.txt
refused "hole.jsonl:2" "expected a prompt of at least one token" -- "$fovea" generate --model generator hole.jsonl
refused "--max-tokens" -- "$fovea" generate --model generator --max-tokens 0 prompts.txt
refused "nowhere.txt" -- "$fovea" generate --model generator nowhere.txt
refused "no such option: --max-token" "--max-tokens" -- "$fovea" generate --model generator --max-token 3 prompts.txt
cp -r generator ahead
sed -i 's/"attention": "[^"]*"/"attention": "full"/' ahead/config.json
refused 'ahead/config.json' '"full" in layer 0' 'use "causal"' -- "$fovea" generate --model ahead prompts.txt
toy 30 1 > labels.jsonl
# shellcheck disable=SC2086
"$fovea" train $tiny --train labels.jsonl --out classifier --train.max_steps 1 2> err.txt || { cat err.txt; fail "classifier"; }
refused 'classifier/config.json' 'fovea_text_classifier' -- "$fovea" generate --model classifier prompts.txt
finish
