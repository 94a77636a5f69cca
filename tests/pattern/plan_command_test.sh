#!/bin/bash
# fovea plan: the picture, its counts, files, and refusals. $1 is the program.
set -u
fovea=$1
work=$(mktemp -d "${TMPDIR:-/tmp}/fovea-plan.XXXXXX")
trap 'rm -rf "$work"' EXIT
failures=0

# expect CODE STDOUT-OR-STDERR-TEXT ARGUMENTS...
expect() {
  local code=$1 text=$2
  shift 2
  "$fovea" plan "$@" > "$work/out" 2>&1
  local got=$?
  if [ $got -ne "$code" ] || ! grep -qF -- "$text" "$work/out"; then
    echo "FAIL: plan $* (exit $got, expected $code and \"$text\"):"
    head -5 "$work/out"
    failures=$((failures + 1))
  fi
}

expect 0 'pairs  10, 62.5 % of 16' --attention causal --length 4
expect 0 '  |### |' --attention causal --length 4 --ascii
# 257 n - 128 · 129 of the window, and twice 3,967 outside it for the global token.
expect 0 '"pairs":1044094,' --attention 'window(128,128)|global(1)' --length 4096 --json
# Diagonals of 62, 63, 64, 63, 62 tiles, the outer ones banded; 61 more in the global column, 62
# intervals in the global row (one of them on the window's edge), and (2, 0) holds both.
expect 0 '"tiles":{"full":190,"banded":183,"interval":62,"bitmap":1,"empty":3660}' \
  --attention 'window(128,128)|global(1)' --length 4096 --json
expect 0 'layers 0, 1, 3, 4' --attention 'window(2)*2, full' --layers 5 --length 9
expect 0 'head 1 of every 2' --attention 'per_head(causal,full)' --length 9
expect 0 '"pairs":9,' --attention 'causal&segments' --segments 2,3 --json
expect 0 '"pairs":6,' --attention key_lengths --length 3 --key-length 2 --json
expect 0 '"pairs":3,' --attention causal --length 2 --kv-length 5 --align top-left --json
expect 0 'causal: a token sees itself' --attention causal --length 4 --explain
expect 2 'did you mean "window"?' --attention 'windw(3)' --length 4
expect 2 'cannot be drawn here' --attention intervals --length 4
expect 2 'run from 0 to 9' --attention segments --segments 2,3 --length 9
expect 2 'expected --length' --attention causal
expect 2 'not in range' --attention causal --length -4
expect 2 '--attention is required' --length 4
expect 2 'no-such-folder' --attention causal --length 4 --svg "$work/no-such-folder/a.svg"

"$fovea" plan --attention 'causal, full' --length 300 --svg "$work/a.svg" --png "$work/a.png" \
  > /dev/null || failures=$((failures + 1))
grep -q '^<svg ' "$work/a.svg" && grep -q '^</svg>' "$work/a.svg" || {
  echo "FAIL: svg"
  failures=$((failures + 1))
}
[ "$(head -c 8 "$work/a.png" | od -An -tx1 | tr -d ' \n')" = 89504e470d0a1a0a ] || {
  echo "FAIL: png"
  failures=$((failures + 1))
}
[ $failures -eq 0 ]
