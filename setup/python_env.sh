#!/usr/bin/env bash
# Makes the Python environment of goldens and benchmarks ($QWEN3_DEPS/venv: torch from the wheel that set-up already
# downloaded, transformers and what it imports) and prints the path of its python. Never part of training or of
# `make test`. Exit 3 with one line on stderr where it cannot be made; callers then skip what needs it.
# torch's own requirements are 5 GB of CUDA libraries; on a machine without a GPU nothing of them is called, so empty
# libraries that only define the names stand in for them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
deps=${QWEN3_DEPS:-$HOME/.cache/qwen3}
venv=$deps/venv
requirements=(transformers==4.57.3 tokenizers==0.22.1 huggingface-hub==0.36.0 safetensors==0.8.0 numpy==2.3.5
  regex requests pyyaml tqdm filelock packaging typing-extensions fsspec jinja2 markupsafe networkx sympy mpmath
  urllib3 idna certifi charset-normalizer)

skip() {
  echo "python environment: $1; skipped" >&2
  exit 3
}

# stub_cuda PYTHON: fills $venv/stubs with libraries for what torch is linked to and does not find.
stub_cuda() {
  local libraries stubs=$venv/stubs
  libraries=$("$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch/lib
  mkdir -p "$stubs"
  nm -D --undefined-only "$libraries"/libtorch*.so "$libraries"/libc10_cuda.so | awk '$1 == "U" {print $2}' |
    grep -E '^(cublas|cudnn|cufft|cuFile|cusparse|cusolver|curand|nccl|nvshmem)' | sort -u >"$stubs/names"  # name[@version]
  sed 's/@.*//; s/.*/void &(void) { __builtin_trap(); }/' "$stubs/names" | sort -u >"$stubs/stubs.c"
  awk -F@ 'NF > 1 {of[$NF] = of[$NF] $1 "; "} END {for (v in of) print v " { global: " of[v] "};"}' "$stubs/names" \
    >"$stubs/versions"
  gcc -w -shared -fPIC -Wl,--version-script="$stubs/versions" -o "$stubs/libcuda_stubs.so" "$stubs/stubs.c"
  readelf -d "$libraries"/libtorch*.so | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | sort -u |
    grep -E '^lib(cublas|cudnn|cufft|cufile|cusparse|cusolver|curand|nccl|nvshmem)' |
    while read -r name; do ln -sf libcuda_stubs.so "$stubs/$name"; done
}

# install_wheel PREFIX TAG: a wheel of setup/wheels.txt; pip wants its real file name.
install_wheel() {
  local requirement sha wheel
  read -r requirement sha < <(grep "^$1==" "$here/wheels.txt")
  [[ -f $deps/downloads/$sha ]] || skip "the wheel of $requirement is not in $deps/downloads (run setup/install.sh)"
  wheel=$staging/${1//-/_}-${requirement#*==}-$2.whl
  ln -s "$deps/downloads/$sha" "$wheel"
  "$venv/bin/pip" install -q --disable-pip-version-check --no-deps "$wheel" >&2
}

if [[ ! -x $venv/bin/qwen3-python ]]; then
  python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || skip "python3 is not Python 3.11"
  python3 -c 'import ensurepip, venv' 2>/dev/null || skip "python3 has no venv module (Debian: python3-venv)"
  echo "python environment: building $venv" >&2
  staging=$(mktemp -d)
  trap 'rm -rf "$staging"' EXIT
  [[ -x $venv/bin/pip ]] || python3 -m venv "$venv"
  install_wheel torch cp311-cp311-manylinux_2_28_x86_64
  install_wheel nvidia-cuda-runtime py3-none-manylinux2014_x86_64
  install_wheel nvidia-cuda-cupti py3-none-manylinux2014_x86_64
  "$venv/bin/pip" install -q --disable-pip-version-check --no-deps "${requirements[@]}" >&2 ||
    skip "pip could not install ${requirements[0]} and what it imports"
  stub_cuda "$venv/bin/python"
  # Last, as the mark of a complete environment: python with the stubs behind the real libraries.
  printf '#!/bin/sh\nexport LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}%s"\nexec "%s" "$@"\n' \
    "$venv/stubs" "$venv/bin/python" >"$venv/qwen3-python"
  chmod +x "$venv/qwen3-python"
  "$venv/qwen3-python" -c 'import torch, transformers' 2>"$staging/error" ||
    skip "torch does not import: $(tail -n 1 "$staging/error")"
  mv "$venv/qwen3-python" "$venv/bin/qwen3-python"
fi
echo "$venv/bin/qwen3-python"
