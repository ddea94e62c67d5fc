#!/usr/bin/env bash
# Measures every row, ours and the peer's in turn, and prints the table; build/bench.json has the same. Needs a build.
# QWEN3_BENCH_ROWS: the rows wanted (default: all but quickstart). QWEN3_BENCH_STEPS: timed steps a row (default 3).
# QWEN3_BENCH_QUICKSTART=1 adds the quickstart, which takes a quarter of an hour or more.
# What a row prints stays in build/measured, so rows can be measured one by one and joined.
set -euo pipefail
cd "$(dirname "$0")/.."
deps=${QWEN3_DEPS:-$HOME/.cache/qwen3}
bin=build/bin
measured=build/measured
steps=${QWEN3_BENCH_STEPS:-3}
threads=2
default_rows="debugmodel-fp32 debugmodel-bf16 debugmodel-vocab-fp32 debugmodel-vocab-bf16 0.6B-bf16 debugmodel-fsdp2 debugmodel-tp2 debugmodel_moe-ep2 data convert service exports"
rows=${QWEN3_BENCH_ROWS:-$default_rows}
if [[ ${QWEN3_BENCH_QUICKSTART:-0} == 1 ]]; then rows+=" quickstart"; fi
mkdir -p "$measured"

status=0
python=$(setup/python_env.sh) || status=$?
if ((status == 3)); then # python_env.sh said why
  echo "bench: the peers' columns stay empty" >&2
  python=
elif ((status != 0)); then
  exit "$status"
fi

# measure ROW ours|peer COMMAND...: a peer that fails leaves its cell empty, ours does not.
measure() {
  local file=$measured/$1.$2 side=$2
  echo "bench: $1, $2" >&2
  shift 2
  rm -f "$file"
  if "$@" >"$file.new"; then
    mv "$file.new" "$file"
  else
    rm -f "$file.new"
    [[ $side == peer ]] || exit 1
    echo "bench: the peer failed; its cell stays empty" >&2
  fi
}

peer() { # ROW SCRIPT ARGUMENTS...
  local row=$1
  shift
  if [[ -n $python ]]; then
    measure "$row" peer "$python" "$@"
  else
    rm -f "$measured/$row.peer"
  fi
}

step() { # ROW ARGUMENTS...
  local row=$1
  shift
  measure "$row" ours "$bin/step_bench" "$@" --threads "$threads" --steps "$steps" --warm-up 1
  peer "$row" bench/hf_step.py "$@" --threads "$threads" --steps "$steps" --warm-up 1
}

ranks() { # ROW FLAVOR DEGREES...: two ranks of one thread beside one process of two
  local row=$1 arguments=(--flavor "$2" --precision bfloat16 --steps "$steps" --warm-up 1)
  shift 2
  measure "$row" ours "$bin/step_bench" "${arguments[@]}" "$@" --threads 1
  measure "$row" peer "$bin/step_bench" "${arguments[@]}" --threads 2
}

text=$deps/data/datasets/shakespeare
tokenizer=$deps/data/tokenizers
for row in $rows; do
  case $row in
    debugmodel-fp32) step "$row" --flavor debugmodel --precision float32 ;;
    debugmodel-bf16) step "$row" --flavor debugmodel --precision bfloat16 ;;
    debugmodel-vocab-fp32) step "$row" --flavor debugmodel --vocab 151936 --precision float32 ;;
    debugmodel-vocab-bf16) step "$row" --flavor debugmodel --vocab 151936 --precision bfloat16 ;;
    0.6B-bf16) step "$row" --flavor 0.6B --batch 1 --seq-len 512 --precision bfloat16 ;;
    debugmodel-fsdp2) ranks "$row" debugmodel --shard 2 ;;
    debugmodel-tp2) ranks "$row" debugmodel --tensor-parallel 2 ;;
    debugmodel_moe-ep2) ranks "$row" debugmodel_moe --shard 2 --expert-parallel 2 ;;
    data)
      measure "$row" ours "$bin/data_bench" "$tokenizer/qwen3.tiktoken" "$text" "$threads" "$measured/tokenizer.json"
      RAYON_NUM_THREADS=$threads peer "$row" bench/hf_tokenizer.py "$measured/tokenizer.json" "$text"
      ;;
    convert) # 6 GB for a moment: in memory where there is room, so that no disk is measured
      folder=${QWEN3_BENCH_CONVERT_DIR:-/dev/shm/qwen3-convert-bench}
      measure "$row" ours "$bin/convert_bench" 0.6B "$folder"
      peer "$row" bench/hf_convert.py "$folder/hf" "$folder/peer.safetensors"
      rm -rf "$folder"
      ;;
    service)
      measure "$row" ours python3 bench/service_bench.py "$bin" \
        --set training.steps=2 --set lr_scheduler.warmup_steps=1
      ;;
    exports) # no numbers: ends the run where transformers does not do with our exports what our model does
      if [[ -n $python ]]; then bench/check_exports.sh "$python" "$bin" >&2; fi
      ;;
    quickstart)
      measure "$row" ours python3 bench/service_bench.py "$bin"
      peer "$row" bench/hf_quickstart.py "$tokenizer/qwen3-2048.tiktoken" "$text" "$bin/qwen3ctl"
      ;;
    *)
      echo "bench: QWEN3_BENCH_ROWS: no row is called '$row'" >&2
      exit 2
      ;;
  esac
done
python3 bench/table.py "$measured" build/bench.json
