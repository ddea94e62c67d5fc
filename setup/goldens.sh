#!/usr/bin/env bash
# Makes the committed reference values again: every tests/golden/make_*_goldens.py, each of which says what it writes.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=$("$root/setup/python_env.sh") || exit 0  # it has said why
for script in "$root"/tests/golden/make_*_goldens.py; do
  "$python" "$script"
done
