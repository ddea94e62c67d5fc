// What makes up the training state of a weight, by the names it has in checkpoints, and the digest of all of it.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstddef>
#include <span>
#include <string>

#include "checkpoint/safetensors.h"
#include "parallel/fsdp/sharded_model.h"

namespace qwen3::rank {

inline constexpr const char* kModelPrefix = "model.";  // of weights and of the model's buffers

struct StatePart {
  const char* prefix;  // of the weight's name
  at::Tensor parallel::ShardedTensor::*flat;
};
inline constexpr StatePart kStateParts[] = {{kModelPrefix, &parallel::ShardedTensor::master},
                                            {"exp_avg.", &parallel::ShardedTensor::exp_avg},
                                            {"exp_avg_sq.", &parallel::ShardedTensor::exp_avg_sq}};

// int64, float64, or float32 for all else.
checkpoint::Dtype dtype_of(const at::Tensor& tensor);
// REQUIRES: contiguous, on the CPU.
std::span<const std::byte> bytes_of(const at::Tensor& tensor);

// The state_digest that a manifest of this state would have (checkpoint/digest.h), the same on every rank and mesh.
// Collective.
std::string state_digest(const parallel::ShardedModel& model);

}  // namespace qwen3::rank
