#!/usr/bin/env bash
# clang-format over every C++ and CUDA file; with --fix it writes, without it complains and fails.
# Usage: format.sh [--fix]
set -euo pipefail
cd "$(dirname "$0")/../.."
mode=(--dry-run --Werror)
[[ ${1:-} == --fix ]] && mode=(-i)
find . -path './build*' -prune -o -path ./.git -prune -o -regex '.*\.\(h\|cc\|cu\|cuh\)' -print0 |
  xargs -0 -n 16 -P "$(nproc)" clang-format "${mode[@]}"
