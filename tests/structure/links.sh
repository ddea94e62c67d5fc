#!/usr/bin/env bash
# What each binary links: the control plane no LibTorch (it must start in milliseconds and survive a CUDA fault), the
# rank no gRPC. Looks at everything the loader would load, not only at what a binary names itself.
# Usage: links.sh BIN_DIR
set -euo pipefail
bin=$1
failed=0

# must_not_load BINARY PATTERN: complains about each library of the loader's list that matches.
must_not_load() {
  local binary=$bin/$1 loaded
  if [[ ! -x $binary ]]; then
    echo "$1: not built at $binary"
    failed=1
    return
  fi
  loaded=$(ldd "$binary" | grep -oE "^[[:space:]]*[^ ]*($2)[^ ]*" || true)
  if [[ -n $loaded ]]; then
    echo "$1 must not link:" $loaded
    failed=1
  fi
}

for control_plane in qwen3-coordinator qwen3-worker qwen3ctl; do
  must_not_load "$control_plane" 'libtorch|libc10|libcudart|libcupti|libnccl'
done
must_not_load qwen3-rank 'libgrpc'
exit $failed
