#!/usr/bin/env bash
# Fuzzes what is read of a Hugging Face folder with libFuzzer and AddressSanitizer. usage: tests/fuzz/run.sh [SECONDS]
# Needs clang; not part of `make test`, where tests/checkpoint/ mutates the same texts deterministically.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=build/fuzz
mkdir -p "$out/corpus"
sources=(tests/fuzz/hf_folder_fuzz.cc checkpoint/{file,json_stream,safetensors,safetensors_header}.cc
  checkpoint/hf/folder.cc spec/{flavor,hf_config}.cc)
# The sources alone: the rest of the build is of another compiler.
"${CXX_FUZZ:-clang++}" -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -I. \
  "${sources[@]}" -o "$out/hf_folder_fuzz" $(pkg-config --libs --cflags absl_statusor absl_strings libxxhash)
seed() { # KIND NAME TEXT: the first byte of an input is its kind
  printf "$1%b" "$3" >"$out/corpus/$2"
}
seed '\x30' config '{"model_type":"qwen3","hidden_size":8,"num_hidden_layers":2,"num_attention_heads":2,"vocab_size":9,"rope_scaling":{"type":"yarn","factor":4.0}}'
seed '\x31' header '\x48\x00\x00\x00\x00\x00\x00\x00{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"__metadata__":{}}01234567'
seed '\x32' index '{"metadata":{"total_size":1},"weight_map":{"a":"x.safetensors","b":"y.safetensors"}}'
"$out/hf_folder_fuzz" -max_total_time="${1:-60}" -max_len=4096 -print_final_stats=1 "$out/corpus"
