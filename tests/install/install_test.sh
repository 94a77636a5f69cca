#!/usr/bin/env bash
# install_test.sh CMAKE BUILD-FOLDER COMPILER [torch]: see CMakeLists.txt beside this file.
set -euo pipefail
cmake=$1 build=$2 compiler=$3 components=${4:-}
source_dir=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$cmake" --install "$build" --prefix "$folder/first" >"$folder/install.log" || { cat "$folder/install.log"; exit 1; }
mv "$folder/first" "$folder/moved"
if grep -rIl "$folder/first" "$folder/moved"; then
  echo "these installed files name the prefix that they were installed to" >&2
  exit 1
fi

"$folder/moved/bin/fovea" --version

"$cmake" -S "$source_dir/consumer" -B "$folder/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_PREFIX_PATH="$folder/moved" -DCONSUMER_COMPONENTS="$components"
"$cmake" --build "$folder/build" -j 1
"$folder/build/attention_consumer"
if [ "$components" = torch ]; then
  "$folder/build/torch_consumer"
fi
