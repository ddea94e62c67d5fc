#!/usr/bin/env bash
# buf lint of our protos: the STANDARD rules and a comment on every message, field, service, call, enum and value.
# Left out: the rules on the names of requests and responses, because the API follows AIP, where a Get answers with the
# resource itself and the watches share a request; and a comment on a oneof, whose members have theirs.
# Usage: protos.sh
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
deps=${QWEN3_DEPS:-$HOME/.cache/qwen3}
image=$(mktemp --suffix=.binpb)
trap 'rm -f "$image"' EXIT
cd "$here/proto"
protoc -I . -I "$deps/googleapis-1.63.0" --include_imports --include_source_info -o "$image" \
  $(find qwen3 -name '*.proto' | sort)
"$deps/buf-1.75.0/buf_bin-1.75.0.data/scripts/buf" lint "$image" --config '{
  "version": "v1",
  "lint": {
    "use": ["STANDARD", "COMMENTS"],
    "except": ["RPC_REQUEST_RESPONSE_UNIQUE", "RPC_REQUEST_STANDARD_NAME", "RPC_RESPONSE_STANDARD_NAME", "COMMENT_ONEOF"],
    "ignore": ["google"]
  }
}'
echo "$(find qwen3 -name '*.proto' | wc -l) protos pass buf lint"
