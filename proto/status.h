// absl::Status <-> grpc::Status, at one place. Codes have the same numbers; a google.rpc detail travels as a payload
// under its type URL and in grpc-status-details-bin (AIP-193).
#pragma once
#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace qwen3 {

grpc::Status to_grpc(const absl::Status& status);
absl::Status from_grpc(const grpc::Status& status);

}  // namespace qwen3
