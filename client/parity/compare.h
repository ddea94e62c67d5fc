// How far two sets of logits are apart, in double, a row at a time: files larger than memory will do. No tensors of
// LibTorch.
#pragma once
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace qwen3::client {

struct LogitComparison {
  int64_t rows = 0;    // positions
  int64_t vocab = 0;   // logits of a position
  double mean_kl = 0;  // of KL(reference || ours) over positions, nats
  double max_kl = 0;
  double max_difference = 0;  // of |logit - logit|
  int64_t same_argmax = 0;    // positions; of equal logits the first is the greatest
  int64_t not_finite = 0;     // positions with an infinity or NaN in either
};

// Tensor `logits` [B, S, V], F32 or F64, of each file. INVALID_ARGUMENT names the file and what it lacks.
absl::StatusOr<LogitComparison> compare_logits(const std::string& reference, const std::string& ours);

// The two largest values that pass.
struct ParityLimits {
  double mean_kl = 0;
  double difference = 0;
};
// float64 and float32: 1e-10 and 1e-4 (transformers in float32 is 2e-14 to 8e-12 from float64; an eps of 1e-5 for 1e-6
// already shows as 2e-8). bfloat16 keeps 8 bits of each number: 5e-3, and no limit for single logits.
ParityLimits parity_limits(const std::string& dtype);
bool passes(const LogitComparison& comparison, const ParityLimits& limits);

}  // namespace qwen3::client
