#!/usr/bin/env bash
# Every small model of tests/golden/hf through our formats (Hugging Face folder -> checkpoint -> export): transformers
# must load the export without a missing or unexpected key and continue text greedily as our model does.
# Usage: check_exports.sh PYTHON BIN; prints one JSON line for each model.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 bin=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for model in tests/golden/hf/*/model; do
  name=$(basename "$(dirname "$model")")
  "$bin/export_case" "$model" "$out/$name"
  "$python" bench/check_hf_export.py "$out/$name/hf" --greedy "$out/$name/greedy.safetensors"
done
