// Token embedding with a deterministic gradient.
#pragma once
#include <ATen/core/Tensor.h>

namespace qwen3::model {

// weight [V, D], ids [B, S] int64 -> [B, S, D]. Gradients of equal ids are added in order of position, in float32 or
// wider, for any number of threads.
at::Tensor embed(const at::Tensor& weight, const at::Tensor& ids);

}  // namespace qwen3::model
