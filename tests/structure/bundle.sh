#!/usr/bin/env bash
# The bundle runs from another path with a bare environment: its binaries find their libraries beside themselves, and
# the rank needs nothing but LibTorch's and CUDA's folders in LD_LIBRARY_PATH.
# Usage: bundle.sh BIN_DIR TORCH_LIBRARY_PATH
set -euo pipefail
bin=$1
torch=$2
here=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$here/setup/bundle.sh" "$bin" "$scratch/made"
mv "$scratch/made" "$scratch/moved" # relocatable: no path of the place where it was made may matter
cd /

expect_version() { # expect_version BINARY [NAME=VALUE...]
  local binary=$1 said
  shift
  if ! said=$(env -i "$@" "$scratch/moved/bin/$binary" --version 2>&1) || [[ ! $said =~ [0-9]+\.[0-9]+\.[0-9]+ ]]; then
    echo "$binary --version in a bare environment printed: $said; expected a version"
    exit 1
  fi
  echo "$binary: $said"
}
for binary in qwen3-coordinator qwen3-worker qwen3ctl; do expect_version "$binary"; done
expect_version qwen3-rank "LD_LIBRARY_PATH=$torch"

# Every library comes from the bundle, LibTorch and CUDA, or glibc: none is found on this machine by luck.
elsewhere=$(for file in "$scratch"/moved/bin/*; do LD_LIBRARY_PATH=$torch ldd "$file"; done |
  sed -nE 's/^\s*(\S+) => (\S+).*/\1 \2/p' | sort -u |
  grep -vE "^lib(c|m|dl|rt|pthread|resolv|util)\.so|^ld-linux| $scratch/moved/" |
  while read -r name path; do
    for folder in ${torch//:/ }; do [[ $path == "$folder"/* ]] && continue 2; done
    echo "$name ($path)"
  done)
if [[ -n $elsewhere ]]; then
  echo "found outside the bundle:" $elsewhere
  exit 1
fi
