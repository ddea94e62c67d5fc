#!/usr/bin/env bash
# Gathers the binaries and every library they load, except LibTorch, CUDA and glibc, into one relocatable folder:
# TO/bin and TO/lib, found by $ORIGIN/../lib. It runs wherever glibc is at least this machine's; qwen3-rank finds
# LibTorch 2.11 and CUDA 13 through LD_LIBRARY_PATH, which qwen3-worker hands it (--library-path).
# Usage: bundle.sh BIN_DIR TO
set -euo pipefail
from=$1
to=$2
binaries=(qwen3-coordinator qwen3-worker qwen3-rank qwen3ctl)
limit_mib=60
# The loader and the parts of glibc; what comes with LibTorch and CUDA.
left_out='^(ld-linux|linux-vdso|lib(c|m|dl|rt|pthread|resolv|util|nsl|anl|mvec|BrokenLocale|thread_db|nss_[a-z]+)\.so)'
left_out+='|^lib(torch|c10|shm|caffe2|cuda|cudart|cupti|cublas|cudnn|cufft|cufile|curand|cusolver|cusparse|nccl|nvrtc|nvJitLink|nvshmem|nvToolsExt)'

staging=$(mktemp -d "$(dirname "$to")/bundle.XXXXXX")
trap 'rm -rf "$staging"' EXIT
mkdir -p "$staging/bin" "$staging/lib"

for binary in "${binaries[@]}"; do
  if [[ ! -x $from/$binary ]]; then
    echo "bundle: $from/$binary is missing; build first" >&2
    exit 1
  fi
  cp "$from/$binary" "$staging/bin/"
  # ldd prints "NAME => PATH (ADDRESS)", with "not found" for PATH where the loader finds none.
  while read -r name path; do
    [[ $name =~ $left_out ]] && continue
    # LibTorch brings an OpenMP runtime of its own beside itself: one process must not hold two.
    [[ $name == libgomp* && $path == */torch/lib/* ]] && continue
    if [[ $path == not ]]; then
      echo "bundle: $binary needs $name, which this machine does not have" >&2
      exit 1
    fi
    [[ -e $staging/lib/$name ]] || cp -L "$path" "$staging/lib/$name"
  done < <(ldd "$from/$binary" | sed -nE 's/^\s*(\S+) => (\S+).*/\1 \2/p')
done

strip "$staging"/bin/*
find "$staging/lib" -type f -exec chmod u+w {} + -exec strip --strip-unneeded {} +
for file in "$staging"/bin/*; do patchelf --set-rpath "\$ORIGIN/../lib" "$file"; done
for file in "$staging"/lib/*; do patchelf --set-rpath "\$ORIGIN" "$file"; done

size_mib=$(du -sm "$staging" | cut -f1)
if ((size_mib >= limit_mib)); then
  echo "bundle: $size_mib MiB, must stay under $limit_mib; the largest files:" >&2
  find "$staging" -type f -size +1M -exec du -m {} + | sort -rn | head -n 5 >&2
  exit 1
fi
rm -rf "$to"
mv "$staging" "$to"
trap - EXIT
chmod 755 "$to"
echo "bundle: $to, $size_mib MiB, $(find "$to/lib" -type f | wc -l) libraries"
