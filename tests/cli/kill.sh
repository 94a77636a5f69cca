#!/usr/bin/env bash
# kill -9 at random moments, and while a tokenizer or a checkpoint is being written: the resumed run
# ends with the same bits as one that was left alone.
. "$(dirname "$0")/common.sh"
cd "$work" || exit 1
seed=${FOVEA_TEST_SEED:-$RANDOM}
RANDOM=$seed
echo "seed $seed (FOVEA_TEST_SEED repeats it)"
toy 300 1 > train.jsonl
toy 40 2 > valid.jsonl
# shellcheck disable=SC2206
run=("$fovea" --threads 1 train --train train.jsonl --valid valid.jsonl $tiny
  --tokenizer.kind bpe --tokenizer.vocab_size 600 --train.epochs 3
  --train.eval_every 9 --save-every 2 --keep 2 --train.log_every 1)

begin=$(date +%s%N)
"${run[@]}" --out whole 2> err.txt || { cat err.txt; fail "uninterrupted run"; finish; }
milliseconds=$((($(date +%s%N) - begin) / 1000000))

kills=0 runs=0 writing_checkpoint=0 writing_tokenizer=0
exists() { compgen -G "$1" > /dev/null; }

# start: the run in the background; a first start and a resumption are the same command.
start() {
  "${run[@]}" --resume --out "run$runs" 2>> "err$runs.txt" &
  pid=$!
}

reap() {  # kills pid if it still runs; otherwise the run is over
  if kill -9 $pid 2> /dev/null; then kills=$((kills + 1)); fi
  wait $pid 2> /dev/null
  code=$?
  [ $code = 0 ] || [ $code = 137 ] || fail "exit code $code: $(tail -n 2 "err$runs.txt")"
  [ $code = 137 ]
}

compare() {  # lets the run come to its end, and begins another
  "${run[@]}" --resume --out "run$runs" 2>> "err$runs.txt" ||
    fail "resumed run $runs: $(tail -n 2 "err$runs.txt")"
  for file in model.safetensors tokenizer.json config.json; do
    cmp "whole/$file" "run$runs/$file" || fail "run $runs: $file differs"
  done
  exists "run$runs/*.tmp-*" && fail "run $runs: a temporary file stays"
  exists "run$runs/checkpoints/*.tmp-*" && fail "run $runs: a temporary checkpoint stays"
  runs=$((runs + 1))
}

# wait_and_kill PATTERN COUNTER: kills at the moment when a file of that name is there.
wait_and_kill() {
  local found=0
  start
  while kill -0 $pid 2> /dev/null; do
    if exists "$1"; then found=1; break; fi
  done
  reap || compare
  [ $found = 1 ] && eval "$2=\$(($2 + 1))"
}

for _ in 1 2 3 4; do
  wait_and_kill "run$runs/tokenizer.json.tmp-*" writing_tokenizer
  rm -f "run$runs/tokenizer.json"
done
for _ in 1 2 3 4 5 6; do wait_and_kill "run$runs/checkpoints/*.tmp-*" writing_checkpoint; done
compare
while [ $kills -lt 30 ]; do
  start
  sleep "$(awk -v r=$RANDOM -v m=$milliseconds 'BEGIN { printf "%.3f", r / 32768 * m / 1000 }')"
  reap || compare
done
compare
echo "$kills kills over $runs runs of $milliseconds ms; $writing_tokenizer while a tokenizer, " \
  "$writing_checkpoint while a checkpoint was being written"
[ $((writing_tokenizer + writing_checkpoint)) -gt 0 ] || fail "no kill hit a file being written"
finish
