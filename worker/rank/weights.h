// Weights from a checkpoint's files onto this rank's shards.
#pragma once
#include "checkpoint/tensor_source.h"
#include "parallel/fsdp/sharded_model.h"

namespace qwen3::rank {

// Reads the part this rank holds of every tensor, and nothing else, into the masters; and the routers' biases where the
// source has them (only checkpoints of ours do). Throws std::runtime_error that names `from` and the tensor.
void load_weights(const checkpoint::TensorSource& source, const std::string& from, parallel::ShardedModel& model);

}  // namespace qwen3::rank
