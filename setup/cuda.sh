#!/usr/bin/env bash
# Compiles and links what needs CUDA (the NCCL process group, device code, a rank with both) in build-cuda. No GPU is
# needed; without nvcc there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
if [[ -z $nvcc ]]; then
  echo "cuda: skipped, nvcc is neither on PATH nor in /usr/local/cuda/bin" >&2
  exit 0
fi
CUDACXX=$nvcc cmake --preset cuda --log-level=WARNING >/dev/null
cmake --build --preset cuda -j "${JOBS:-$(nproc)}" --target cuda
ctest --preset cuda -R "^cuda_test$"
