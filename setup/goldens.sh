#!/usr/bin/env bash
# Makes the committed reference values again, with the implementations that computed them. Skips, with a line, what this
# machine cannot make. The tokenizer's values need Qwen3's own tokenizer.json: QWEN3_TOKENIZER_JSON=FILE.
set -euo pipefail
cd "$(dirname "$0")/.."
deps=${QWEN3_DEPS:-$HOME/.cache/qwen3}
status=0
python=$(setup/python_env.sh) || status=$?
if ((status == 3)); then exit 0; fi # python_env.sh said why
if ((status != 0)); then exit "$status"; fi

"$python" tests/golden/make_hf_goldens.py
"$python" tests/golden/make_yarn_goldens.py
for folder in tests/golden/hf/*/; do
  if [[ -f $folder/transformers.safetensors ]]; then "$python" tests/golden/float64_reference.py "$folder"; fi
done
if [[ -n ${QWEN3_TOKENIZER_JSON:-} ]]; then
  "$python" tests/golden/make_tokenizer_goldens.py "$QWEN3_TOKENIZER_JSON" "$deps/data/datasets/shakespeare"
else
  echo "goldens: the tokenizer's are left as they are; QWEN3_TOKENIZER_JSON names no file" >&2
fi
git status --short tests/golden
