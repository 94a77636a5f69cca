#!/usr/bin/env bash
# From text to a trained, evaluated and used model, through the program alone.
. "$(dirname "$0")/common.sh"
cd "$work" || exit 1
toy 600 1 > train.jsonl
toy 200 2 > valid.jsonl
toy 200 3 > test.jsonl

ldd "$fovea" | grep -q torch && fail "the program itself is linked to torch"
"$fovea" --help > help.txt || fail "--help"
for command in train eval predict info doctor; do
  grep -q "  $command " help.txt || fail "--help does not list $command"
done

# shellcheck disable=SC2086
"$fovea" train --train train.jsonl --valid valid.jsonl --out model $tiny --train.epochs 12 \
  > out.txt 2> err.txt || { cat err.txt; fail "train"; }
[ -s out.txt ] && fail "train writes to stdout"
for file in config.json model.safetensors tokenizer.json run.json README.md log.jsonl; do
  [ -s "model/$file" ] || fail "no model/$file"
done
grep -q '"grad_norm"' model/log.jsonl || fail "log.jsonl has no gradient norm"
grep -q 'window(4,4)\|window(4)' model/README.md || fail "the model card does not tell the attention"

"$fovea" eval --model model --data test.jsonl --json > eval.json 2> err.txt ||
  { cat err.txt; fail "eval"; }
[ "$(wc -l < eval.json)" = 1 ] || fail "eval --json is not one line"
for key in accuracy macro_f1 micro_f1 mcc loss examples truncated; do
  grep -q "\"$key\":" eval.json || fail "eval --json has no $key"
done
accuracy=$(sed 's/.*"accuracy":\([0-9.]*\).*/\1/' eval.json)
awk -v a="$accuracy" 'BEGIN { exit !(a > 0.95) }' || fail "accuracy $accuracy, expected > 0.95"

# Predictions keep the order, echo ids, and agree with eval.
"$fovea" predict --model model < test.jsonl > predictions.jsonl 2> err.txt ||
  { cat err.txt; fail "predict"; }
[ "$(wc -l < predictions.jsonl)" = 200 ] || fail "predict: not one line for each text"
sed 's/.*"id":\([0-9]*\).*/\1/' predictions.jsonl | cmp -s - <(seq 200) || fail "ids or order"
hits=$(paste -d'|' <(sed 's/.*"label": "\([A-Z]*\)".*/\1/' test.jsonl) \
  <(sed 's/.*"label":"\([A-Z]*\)".*/\1/' predictions.jsonl) | awk -F'|' '$1 == $2' | wc -l)
awk -v a="$accuracy" -v h="$hits" 'BEGIN { d = a * 200 - h; exit !(d < 0.01 && d > -0.01) }' ||
  fail "eval says $accuracy, predictions hit $hits of 200"
grep -q '"probabilities":{"AMBER":[0-9.e-]*,"BRONZE":[0-9.e-]*,"COBALT":[0-9.e-]*},"truncated_tokens":0}' \
  predictions.jsonl || fail "predict's fields"

# Raw lines, several files, one text at a time: the same labels.
sed 's/.*"text": "\([^"]*\)".*/\1/' test.jsonl > test.txt
"$fovea" predict --model model --batch-examples 1 test.txt > lines.jsonl 2> err.txt ||
  { cat err.txt; fail "predict of lines"; }
cmp -s <(sed 's/.*"label":"\([A-Z]*\)".*/\1/' lines.jsonl) \
  <(sed 's/.*"label":"\([A-Z]*\)".*/\1/' predictions.jsonl) || fail "lines and JSONL differ"
: | "$fovea" predict --model model > none.jsonl 2> err.txt || fail "predict of nothing"
[ -s none.jsonl ] && fail "predict of nothing printed something"

# Truncation is counted.
awk 'BEGIN { for (i = 0; i < 100; ++i) printf "amber "; print "" }' |
  "$fovea" predict --model model 2> /dev/null | grep -q '"truncated_tokens":36}' ||
  fail "truncated tokens of a text of 100 words under a limit of 64"

"$fovea" info --model model > info.txt || fail "info"

for step in inference train; do
  "$fovea" bench model --step $step --length 64 --documents 2 --repeat 1 --seconds 0 --json \
    --model.layers 1 --model.model_dim 32 --model.heads 2 > bench.json 2> err.txt ||
    { cat err.txt; fail "bench model --step $step"; }
  grep -q '"step":"'$step'".*"tokens_per_second":[1-9]' bench.json || fail "bench model's fields"
done
"$fovea" bench model --step dance 2> err.txt && fail "bench model takes any step"
"$fovea" bench model --model.heads 3 2> err.txt && fail "bench model takes 3 heads of 256 features"
grep -q heads err.txt || fail "bench model does not name the field"
grep -q "attention of layer 0" info.txt || fail "info has no attention by layer"
"$fovea" doctor > doctor.txt 2> err.txt || fail "doctor"
grep -q isa_in_use doctor.txt || fail "doctor has no isa_in_use"
"$fovea" doctor --json | grep -q '"openmp_runtimes":\["[^",]*"\]' ||
  fail "not exactly one OpenMP runtime: $("$fovea" doctor --json)"

# Linear attention in some layers: trains, is told, drawn and timed.
linear=${tiny/window(4)|global(1)/linear,window(4)}
# shellcheck disable=SC2086
"$fovea" train --train train.jsonl --valid valid.jsonl --out linear ${linear/layers 1/layers 2} \
  --train.epochs 12 2> err.txt || { cat err.txt; fail "train with linear attention"; }
accuracy=$("$fovea" eval --model linear --data test.jsonl --json 2> err.txt |
  sed 's/.*"accuracy":\([0-9.]*\).*/\1/')
awk -v a="$accuracy" 'BEGIN { exit !(a > 0.95) }' || fail "linear: accuracy $accuracy, not > 0.95"
"$fovea" info --model linear | grep -q "attention of layer 0 *linear$" || fail "info: no linear layer"
"$fovea" plan --attention 'linear(causal)' --length 64 | grep -q "^cost   linear" ||
  fail "plan does not tell the cost of linear attention"
"$fovea" plan --attention 'window(4)+linear' --length 64 | grep -q "^cost   and linear.*each side" ||
  fail "plan does not tell the cost of a memory"
"$fovea" plan --attention linear --length 64 --json | grep -q '"pattern":"linear"' ||
  fail "plan --json of linear attention"
"$fovea" bench attention --linear --case b1_h2_q70_k70_d8_f32_causal_bwd --repeat 1 --seconds 0 \
  --json | grep -q '"mechanism":"linear".*"gflops":[0-9]' || fail "bench attention --linear"

# Recurrent layers train, are saved, loaded and told.
recurrent=${tiny/window(4)|global(1)/based,gated_deltanet}
# shellcheck disable=SC2086
"$fovea" train --train train.jsonl --valid valid.jsonl --out recurrent ${recurrent/layers 1/layers 2} \
  --train.epochs 6 2> err.txt || { cat err.txt; fail "train with recurrent layers"; }
accuracy=$("$fovea" eval --model recurrent --data test.jsonl --json 2> err.txt |
  sed 's/.*"accuracy":\([0-9.]*\).*/\1/')
awk -v a="$accuracy" 'BEGIN { exit !(a > 0.95) }' || fail "recurrent: accuracy $accuracy, not > 0.95"
"$fovea" info --model recurrent | grep -q "attention of layer 1 *gated_deltanet$" ||
  fail "info: no gated_deltanet layer"
"$fovea" plan --attention 'gla' --length 64 --explain | grep -q "^gla: a state" ||
  fail "plan does not explain gla"
"$fovea" bench attention --linear --recurrence gated_delta --case b1_h2_q70_k70_d8_f32_causal_bwd \
  --repeat 1 --seconds 0 --json | grep -q '"recurrence":"gated_delta"' || fail "bench --recurrence"

# Softmax over blocks that are chosen or pooled.
over_blocks=${tiny/window(4)|global(1)/moba(4,2),hmatrix(4),nsa(4,3,6),segment_encoder(6)}
over_blocks=${over_blocks/layers 1/layers 4}
# shellcheck disable=SC2086
"$fovea" train --train train.jsonl --valid valid.jsonl --out over_blocks $over_blocks --train.epochs 6 \
  --model.attention_dropout 0.1 2> err.txt || { cat err.txt; fail "train with layers over blocks"; }
accuracy=$("$fovea" eval --model over_blocks --data test.jsonl --json 2> err.txt |
  sed 's/.*"accuracy":\([0-9.]*\).*/\1/')
awk -v a="$accuracy" 'BEGIN { exit !(a > 0.95) }' || fail "over blocks: accuracy $accuracy, not > 0.95"
"$fovea" info --model over_blocks | grep -q "attention of layer 0 *moba(4,2)$" || fail "info: no moba layer"
"$fovea" info --model over_blocks | grep -q "attention of layer 2 *nsa(4,3,6)$" || fail "info: no nsa layer"
"$fovea" plan --attention 'moba(16,2,causal)' --length 64 --explain > plan.txt
grep -q "^cost   blocks: up to 32 keys a query and head, of 4 blocks" plan.txt || fail "plan: the cost of moba"
grep -q "^moba(16,2,causal): each token" plan.txt || fail "plan does not explain moba"
"$fovea" plan --attention 'hmatrix(64)' --length 1024 | grep -q "^cost   blocks: 4 levels, about 288 keys" ||
  fail "plan: the cost of hmatrix"

# Scores of other kinds than products.
for scores in additive leaky; do
  # shellcheck disable=SC2086
  "$fovea" train --train train.jsonl --valid valid.jsonl --out "$scores" $tiny --train.max_steps 3 \
    --model.positions learned --model.scores "$scores" 2> err.txt || { cat err.txt; fail "train with $scores scores"; }
  "$fovea" eval --model "$scores" --data test.jsonl --json > out.json 2> err.txt || { cat err.txt; fail "eval with $scores scores"; }
done
grep -aq 'layers.0.attention.score_weight' additive/model.safetensors || fail "additive weights are not saved"
grep -aq 'layers.0.attention.query_vector' leaky/model.safetensors || fail "vectors of leaky scores are not saved"

# What is done to scores: trains, is saved with what it learned, loaded and named.
# shellcheck disable=SC2086
"$fovea" train --train train.jsonl --valid valid.jsonl --out scores $tiny --train.epochs 12 \
  --model.positions none --model.position_bias t5 --model.bias_max_distance 40 --model.softcap 20 \
  --model.cosine true --model.sinks true 2> err.txt || { cat err.txt; fail "train with scores"; }
grep -aq 'layers.0.attention.position_bias.*layers.0.attention.sinks' scores/model.safetensors ||
  fail "what scores learned is not saved"
grep -q 'position bias.*`t5`' scores/README.md || fail "the model card does not tell the position bias"
accuracy=$("$fovea" eval --model scores --data test.jsonl --json 2> err.txt |
  sed 's/.*"accuracy":\([0-9.]*\).*/\1/')
awk -v a="$accuracy" 'BEGIN { exit !(a > 0.95) }' || fail "scores: accuracy $accuracy, not > 0.95"

# The printed settings are the settings: a run from them gives the same weights. A missing --valid
# is split off, and said.
# shellcheck disable=SC2086
"$fovea" train --train train.jsonl --out a $tiny --train.epochs 1 2> err.txt || fail "train a"
grep -q "are set apart" err.txt || fail "the split is not announced"
# shellcheck disable=SC2086
"$fovea" train --train train.jsonl $tiny --train.epochs 1 --dump-config > c.toml ||
  fail "dump-config"
"$fovea" train --config c.toml --out b 2> err.txt || { cat err.txt; fail "train b"; }
cmp -s a/model.safetensors b/model.safetensors || fail "--dump-config does not repeat the run"

# Start from a model, with other labels: a new classifier over the old encoder.
sed 's/"label": "AMBER"/"label": "warm"/; s/"label": "BRONZE"/"label": "warm"/; s/COBALT/cold/' \
  train.jsonl > warm.jsonl
"$fovea" train --init model --train warm.jsonl --out warm --train.epochs 4 --train.lr 0.01 \
  --train.batch_tokens 512 2> err.txt || { cat err.txt; fail "train --init"; }
grep -q "starts anew" err.txt || fail "--init does not tell about the new classifier"
cmp -s model/tokenizer.json warm/tokenizer.json || fail "--init does not keep the tokenizer"
"$fovea" train --init model --train train.jsonl --out same --train.epochs 1 --train.lr 0 \
  --train.batch_tokens 512 2> err.txt || { cat err.txt; fail "train --init, same labels"; }
cmp -s model/model.safetensors same/model.safetensors || fail "--init changed the weights at rate 0"

# Interrupts save, say how to go on, and exit 130 and 143.
for signal in INT TERM; do
  # shellcheck disable=SC2086
  "$fovea" train --train train.jsonl --valid valid.jsonl --out "stop$signal" $tiny \
    --train.epochs 10000 --train.eval_every 1000000 2> err.txt &
  pid=$!
  while [ ! -s "stop$signal/log.jsonl" ] && kill -0 $pid 2> /dev/null; do sleep 0.05; done
  kill -$signal $pid
  wait $pid
  code=$?
  [ $code = $([ $signal = INT ] && echo 130 || echo 143) ] || fail "SIG$signal: exit code $code"
  grep -q -- "--resume --out stop$signal" err.txt || fail "SIG$signal: does not say how to resume"
  ls -d "stop$signal"/checkpoints/step-* > /dev/null || fail "SIG$signal: no checkpoint"
done
finish
