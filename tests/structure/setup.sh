#!/usr/bin/env bash
# setup/install.sh: a call with nothing to do asks nobody for anything and is quick; what cannot be had is named with the
# place to put it; what is not what was pinned is refused.
# Usage: setup.sh DEPENDENCY_CACHE
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
cache=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export CALLS=$scratch/calls
touch "$CALLS"

# A machine without network: pip and apt-get write down that they were called and fail. PIP_GIVES makes pip deliver a
# file with that content instead.
mkdir "$scratch/bin"
cat >"$scratch/bin/pip" <<'FAKE'
#!/usr/bin/env bash
echo "pip $*" >>"$CALLS"
[[ -n ${PIP_GIVES:-} ]] || exit 1
while [[ $1 != -d ]]; do shift; done
echo "$PIP_GIVES" >"$2/some.whl"
FAKE
cat >"$scratch/bin/apt-get" <<'FAKE'
#!/usr/bin/env bash
echo "apt-get $*" >>"$CALLS"
exit 1
FAKE
chmod +x "$scratch"/bin/*
export PATH=$scratch/bin:$PATH QWEN3_PIP=pip

fail() {
  echo "$1" >&2
  exit 1
}

start=$(date +%s%N)
QWEN3_DEPS=$cache "$here/setup/install.sh" >"$scratch/log" 2>&1 || fail "with everything there it failed: $(cat "$scratch/log")"
milliseconds=$((($(date +%s%N) - start) / 1000000))
[[ ! -s $CALLS ]] || fail "with everything there it still called: $(cat "$CALLS")"
[[ ! -s $scratch/log ]] || fail "with everything there it printed: $(cat "$scratch/log")"
((milliseconds < 5000)) || fail "with everything there it took $milliseconds ms; under 1,000 on an idle machine"

read -r first sha < <(grep -v '^#' "$here/setup/wheels.txt")
unset QWEN3_TORCH_DIR
if QWEN3_DEPS=$scratch/empty "$here/setup/install.sh" >"$scratch/log" 2>&1; then fail "without a network it succeeded"; fi
grep -q "could not download $first; put the file with sha256 $sha at $scratch/empty/downloads/$sha" "$scratch/log" ||
  fail "without a network it printed: $(cat "$scratch/log")"

export PIP_GIVES='not the wheel that was pinned'
if QWEN3_DEPS=$scratch/wrong "$here/setup/install.sh" >"$scratch/log" 2>&1; then fail "a wrong download was accepted"; fi
grep -q "$first has sha256 .*, expected $sha; refused" "$scratch/log" ||
  fail "given a wrong download it printed: $(cat "$scratch/log")"
[[ -z $(ls "$scratch/wrong/downloads") ]] || fail "a refused download was kept"
echo "nothing to do took $milliseconds ms"
