#!/usr/bin/env bash
# The control plane's tests under AddressSanitizer + UndefinedBehaviorSanitizer, then under ThreadSanitizer. What links
# LibTorch is left out: the wheel is not instrumented, so what would be reported there is not ours. What ThreadSanitizer
# cannot know of gRPC: tests/sanitizers/thread_sanitizer.cc.
set -euo pipefail
cd "$(dirname "$0")/.."
folders=(proto spec tokenizer checkpoint coordinator worker client)
status=0
for preset in asan tsan; do
  cmake --preset "$preset" --log-level=WARNING >/dev/null
  for folder in "${folders[@]}"; do
    [[ -d build/$preset/tests/$folder ]] || continue
    echo "== $preset: tests/$folder"
    cmake --build --preset "$preset" -j "${JOBS:-$(nproc)}" --target "tests/$folder/all"
    ctest --test-dir "build/$preset/tests/$folder" --output-on-failure -j 2 || status=$?
  done
done
exit "$status"
