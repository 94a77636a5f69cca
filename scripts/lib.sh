# shellcheck shell=bash
# Sourced by the scripts beside it: the source tree's root, messages, parallel jobs.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# Clones in other folders share compiled files, precompiled headers included.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# Jobs that fit: one a core, but 1.5 GB of free memory for each (a file that includes torch takes more than 1 GB).
job_count() {
  local cores free_kb fit
  cores=$(nproc)
  free_kb=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
  fit=$((free_kb / 1500000))
  ((fit < 1)) && fit=1
  echo $((cores < fit ? cores : fit))
}

# build_and_test PRESET [CTEST-OPTION...]: results go to build/PRESET/test-results, for count_tests.py; none if it does not build.
build_and_test() {
  local preset=$1 results=$root/build/$1/test-results
  shift
  rm -rf "$results"
  # In CI a warning is an error; elsewhere another compiler's new warning must not stop a user.
  cmake --preset "$preset" -DFOVEA_WERROR="${CI:+ON}" >/dev/null || return
  cmake --build --preset "$preset" -j "$(job_count)" -- -k 0 || return
  mkdir -p "$results"
  # Each GoogleTest program writes its own count; idle OpenMP threads sleep, so that tests can run side by side.
  GTEST_OUTPUT="xml:$results/gtest/" OMP_WAIT_POLICY=passive \
    ctest --preset "$preset" -j "$(nproc)" --output-junit "$results/ctest.xml" "$@"
}
