#!/usr/bin/env bash
# A whole training run through the service: a coordinator and two worker daemons with one slot each on loopback, the
# debug model on real text, a committed checkpoint and a Hugging Face export. Progress is on stderr; stdout is the
# client's output, whose last line is one JSON object with the results. Exit 0 only if every part of it is there.
# Usage: quickstart.sh [CONFIG] [qwen3ctl submit options]. QWEN3_QUICKSTART_DIR: where the service keeps its files.
set -euo pipefail
cd "$(dirname "$0")/.."
config=${1:-configs/debugmodel.toml}
shift || true
dir=${QWEN3_QUICKSTART_DIR:-$PWD/build/quickstart}
qwen3ctl=$PWD/build/bin/qwen3ctl

take_down() { "$qwen3ctl" local down --dir "$dir" >&2 || true; }
trap take_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
"$qwen3ctl" local up --dir "$dir" --workers 2 --slots 1 >&2
export QWEN3_ADDRESS
QWEN3_ADDRESS=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["address"])' "$dir/local.json")

# With `tee` the reader sees the client's lines as they come, and the last one can be checked afterwards.
"$qwen3ctl" submit "$config" "$@" --watch --output json | tee "$dir/quickstart.out"
python3 - "$dir/quickstart.out" <<'CHECK'
import json, os, sys
lines = open(sys.argv[1]).read().splitlines()
try:
    result = json.loads(lines[-1])
except (IndexError, ValueError):
    sys.exit("quickstart: the last line of qwen3ctl is not JSON: " + (lines[-1] if lines else "(no output)"))
wanted = ("job", "state", "steps", "first_loss", "final_loss", "validation_loss", "tokens_per_second", "checkpoint",
          "hf_export")
missing = [key for key in wanted if result.get(key) in (None, "")]
if missing:
    sys.exit(f"quickstart: the result lacks {', '.join(missing)}")
if result["state"] != "SUCCEEDED":
    sys.exit(f"quickstart: the job ended {result['state']}, expected SUCCEEDED")
for key, proof in (("checkpoint", "manifest.json"), ("hf_export", "config.json")):
    if not os.path.isfile(os.path.join(result[key], proof)):
        sys.exit(f"quickstart: {key} {result[key]} holds no {proof}")
CHECK
