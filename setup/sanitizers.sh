#!/usr/bin/env bash
# The control plane's tests under AddressSanitizer + UndefinedBehaviorSanitizer, then under ThreadSanitizer. What links
# LibTorch is left out: the wheel is not instrumented, so its reports would not be ours.
set -euo pipefail
cd "$(dirname "$0")/.."
status=0
for preset in asan tsan; do
  cmake --preset "$preset" --log-level=WARNING >/dev/null
  cmake --build --preset "$preset" -j "${JOBS:-$(nproc)}" --target control_plane_tests
  ctest --preset "$preset" -L control_plane || status=$?
done
exit "$status"
