#!/usr/bin/env bash
# Bad input: a clear message, exit code 2 (1 where the system fails), no crash, nothing on stdout.
. "$(dirname "$0")/common.sh"
cd "$work" || exit 1
toy 60 1 > train.jsonl
toy 30 2 > valid.jsonl

# expect CODE TEXT... -- COMMAND...: exit code, and each TEXT in the error message.
expect() {
  local code=$1 texts=()
  shift
  while [ "$1" != -- ]; do texts+=("$1"); shift; done
  shift
  "$@" > out.txt 2> err.txt < /dev/null
  local got=$?
  [ $got = "$code" ] || fail "exit code $got, expected $code: $* ($(tail -n 2 err.txt))"
  [ -s out.txt ] && fail "wrote to stdout: $*"
  for text in "${texts[@]}"; do
    grep -qF -- "$text" err.txt || fail "no \"$text\" in the message of: $* ($(tail -n 3 err.txt))"
  done
  grep -qE "terminate called|core dumped|frame #|AddressSanitizer|Traceback" err.txt &&
    fail "crash or stack trace: $*"
}

train() {
  rm -rf out
  # shellcheck disable=SC2086
  expect "$@"
}
# shellcheck disable=SC2206
run=("$fovea" train --out out $tiny --train.epochs 1 --valid valid.jsonl)

# shellcheck disable=SC2086
"$fovea" train --train train.jsonl --valid valid.jsonl --out model $tiny --train.epochs 1 \
  2> err.txt || { cat err.txt; fail "cannot make the model to begin with"; finish; }

echo "- usage"
expect 2 -- "$fovea"
expect 2 'no such command: trian; did you mean "train"' -- "$fovea" trian
expect 2 "--model" -- "$fovea" eval --data train.jsonl
expect 2 "--no-such-flag" -- "$fovea" train --no-such-flag 1
expect 2 'no such option: --modl; did you mean "--model"' -- "$fovea" eval --modl x --data train.jsonl
expect 2 'no such option: --atention; did you mean "--attention"' -- "$fovea" train --atention=full
train 2 "--train" -- "${run[@]}"
expect 2 "--out" -- "$fovea" train --train train.jsonl
train 2 "no such file" -- "${run[@]}" --train nowhere.jsonl
train 2 "train.task" "expected one of classify" -- "${run[@]}" --train train.jsonl --task summarize
train 2 "data.train is given 2 times" -- "${run[@]}" --train train.jsonl --train valid.jsonl
expect 2 "not empty" "--resume" -- "$fovea" train --train train.jsonl --out model
expect 2 "nowhere" -- "$fovea" eval --model nowhere --data train.jsonl

echo "- settings"
printf '[train]\nlearning_rate = 1\nlr = 0.1\n[model]\nlayer = 3\n' > bad.toml
expect 2 "bad.toml" "no such setting" -- "$fovea" train --config bad.toml --train train.jsonl --out out
printf '[model]\nlayer = 3\n' > bad.toml
expect 2 "bad.toml:2" "model.layer" 'did you mean "model.layers"' -- \
  "$fovea" train --config bad.toml --train train.jsonl --out out
printf '[model\nlayers = 3\n' > bad.toml
expect 2 "bad.toml:1" -- "$fovea" train --config bad.toml --train train.jsonl --out out
train 2 'field "attention"' 'multiple of the 3 patterns of per_head' "change heads" -- \
  "${run[@]}" --train train.jsonl --attention 'per_head(full,causal,window(3)), window(4)'
expect 2 'multiple of the 3 patterns of per_head, found 4 heads in "per_head(full,causal,window(3,3))"' -- \
  "$fovea" plan --attention 'per_head(full,causal,window(3))' --length 64 --heads 4
train 2 'field "sinks"' "none with linear layers" -- \
  "${run[@]}" --train train.jsonl --attention linear --model.sinks true
train 2 "model.position_bias" "none, alibi, t5" -- \
  "${run[@]}" --train train.jsonl --model.position_bias shaw
train 2 "train.lr" -- "${run[@]}" --train train.jsonl --train.lr -1
train 2 "train.lr" "a number" -- "${run[@]}" --train train.jsonl --train.lr fast
train 2 "window(-3" -- "${run[@]}" --train train.jsonl --attention 'window(-3,2)'
train 2 "windw" "window" -- "${run[@]}" --train train.jsonl --attention 'windw(3)'
train 2 "heads" -- "${run[@]}" --train train.jsonl --model.model_dim 20
train 2 "multiple of 8 up to 256" -- "${run[@]}" --train train.jsonl --model.model_dim 1024

echo "- training data"
: > empty.jsonl
train 2 "empty.jsonl" -- "${run[@]}" --train empty.jsonl
train 2 "train.jsonl" "title" -- "${run[@]}" --train train.jsonl --data.text title
sed 's/"label"/"class"/' train.jsonl > nolabel.jsonl
train 2 "nolabel.jsonl:1" "label" -- "${run[@]}" --train nolabel.jsonl
sed 's/AMBER/SAME/; s/BRONZE/SAME/; s/COBALT/SAME/' train.jsonl > same.jsonl
train 2 "at least two labels" -- "${run[@]}" --train same.jsonl
sed '7s/"label": "[A-Z]*"/"label": "PURPLE"/' valid.jsonl > unknown.jsonl
train 2 "unknown.jsonl:7" "PURPLE" -- "${run[@]}" --train train.jsonl --valid unknown.jsonl
expect 2 "unknown.jsonl:7" "PURPLE" -- "$fovea" eval --model model --data unknown.jsonl
printf '{"text": "a \xff b", "label": "A"}\n{"text": "c", "label": "B"}\n' > utf8.jsonl
train 2 "utf8.jsonl:1" "UTF-8" -- "${run[@]}" --train utf8.jsonl
expect 2 "utf8.jsonl:1" "UTF-8" -- "$fovea" predict --model model utf8.jsonl
printf 'A\tgood text\nB\tbad \xc3\x28 text\n' > utf8.tsv
train 2 "utf8.tsv:2" "UTF-8" -- "${run[@]}" --train utf8.tsv
printf 'A\tgood text\nB\tbad \000 text\n' > nul.tsv
train 2 "nul.tsv:2" "NUL" -- "${run[@]}" --train nul.tsv
printf '{"text": "a", "label": "A"\n' > broken.jsonl
train 2 "broken.jsonl:1" -- "${run[@]}" --train broken.jsonl
printf 'A\ttext\t7\nB\ttext\t8\n' > columns.tsv
train 2 "columns.tsv:1" "columns" -- "${run[@]}" --train columns.tsv
gzip -c train.jsonl | head -c 300 > cut.jsonl.gz
train 2 "cut.jsonl.gz" -- "${run[@]}" --train cut.jsonl.gz
expect 2 "cut.jsonl.gz" -- "$fovea" eval --model model --data cut.jsonl.gz

echo "- a line of 100 MB"
{ printf '{"id": 1, "text": "'; head -c 100000000 /dev/zero | tr '\0' 'x'; printf '"}\n'; } > long.jsonl
"$fovea" predict --model model long.jsonl > long.out 2> err.txt ||
  fail "100 MB line: exit code $? ($(tail -n 1 err.txt))"
[ "$(wc -l < long.out)" = 1 ] || fail "100 MB line: no prediction"
rm -f long.jsonl

echo "- model folders"
broken() { rm -rf broken; cp -r model broken; rm -rf broken/checkpoints; }
used() { expect 2 "$@" -- "$fovea" eval --model broken --data valid.jsonl; }
broken; head -c 200 model/model.safetensors > broken/model.safetensors; used "model.safetensors"
broken; head -c -1 model/model.safetensors > broken/model.safetensors; used "model.safetensors"
broken; printf '\377\377\377\377\377\377\377\177{}' > broken/model.safetensors; used "model.safetensors"
broken; printf '\002\000\000\000\000\000\000\000{}' > broken/model.safetensors; used "model.safetensors"
broken; : > broken/model.safetensors; used "model.safetensors"
broken; rm broken/tokenizer.json; used "tokenizer.json"
broken; echo '{"model": 3}' > broken/tokenizer.json; used "tokenizer.json"
broken; sed -i 's/"format_version": 4/"format_version": 99/' broken/config.json
used "config.json" "99" "newer"
broken; sed -i 's/"model_dim": 16/"model_dim": 1048576/' broken/config.json; used "broken/"
broken; sed -i 's/"layers"/"layrs"/' broken/config.json; used "config.json" "layrs"
broken; echo '{' > broken/config.json; used "config.json"

echo "- folders that hold something else, and runs that cannot go on"
mkdir own
echo precious > own/README.md
train 2 "own" "run.json" -- "${run[@]}" --train train.jsonl --out own --overwrite
[ "$(cat own/README.md)" = precious ] || fail "--overwrite takes a folder that is no run"
train 2 "nolabel.jsonl:1" -- "${run[@]}" --train nolabel.jsonl --out again
train 0 -- "${run[@]}" --train train.jsonl --valid valid.jsonl --out again --train.epochs 1
cp again/run.json before.json
train 2 "differ" -- "$fovea" train --resume --out again --attention full
cmp -s again/run.json before.json || fail "a refused --resume changes run.json"
train 2 "both" -- "$fovea" train --resume --overwrite --out again
printf '{"text": "a", "label": "A"}\n{"text": "b", "label": "B"}\n' > two.jsonl
# shellcheck disable=SC2086
expect 2 "two.jsonl" "validate" -- "$fovea" train --train two.jsonl --out two $tiny

echo "- places that cannot be written"
mkdir held
exec 9< held
flock 9
train 2 "held: another process" -- "${run[@]}" --train train.jsonl --out held
exec 9<&-
train 1 "/proc/out" -- "${run[@]}" --train train.jsonl --out /proc/out/model
if [ "$(id -u)" = 0 ] && mkdir full && mount -t tmpfs -o size=300k tmpfs full 2> /dev/null; then
  # shellcheck disable=SC2086
  expect 1 "No space left" -- "$fovea" train --train train.jsonl --valid valid.jsonl \
    --out full/model $tiny --train.epochs 3 --model.model_dim 128 --model.ff_dim 512
  ls full/model/*.tmp-* full/model/checkpoints/*.tmp-* 2> /dev/null && fail "temporaries stay"
  umount full
else
  echo "SKIPPED: disk full and read-only output need root and mount"
fi
if [ "$(id -u)" = 0 ] && mkdir -p readonly && mount -t tmpfs -o size=1m,ro tmpfs readonly 2> /dev/null; then
  train 1 "ead-only" -- "${run[@]}" --train train.jsonl --out readonly/model
  umount readonly
fi
"$fovea" predict --model model train.jsonl > /dev/full 2> err.txt
[ $? = 1 ] || fail "predict to a full device: exit code"
grep -q "No space left" err.txt || fail "predict to a full device: message"
finish
