// Activation checkpointing as the model's `chain` seam: which results of a block stay for backward is data
// (spec/activation_checkpoint.h); here is how the others are made again.
#pragma once
#include <vector>

#include "model/seams.h"
#include "spec/activation_checkpoint.h"

namespace qwen3::parallel {

// kept[i]: the results that block i of the model keeps. Segments whose result is kept run as they are. A group of
// neighbours that are not runs as one autograd Function, which keeps the group's inputs; its backward runs the group
// again and a backward of its own inside. Every gradient is bitwise that of a chain without recomputation, provided
// that a weight has at most one use in the model (Parameter) and that segments repeat themselves (Segment::run).
// The weights must be readable again from the backward of the block's output to that of its input, and their
// gradients are complete there, which is what FSDP's `around` gives and expects. Without a gradient nothing changes.
void install_checkpointing(model::Seams& seams, std::vector<spec::KeptResults> kept);

}  // namespace qwen3::parallel
