// Sums of narrow values kept in wide ones.
#pragma once
#include <ATen/core/Tensor.h>

namespace qwen3::kernels {

// sum += x, where x may be of a narrower dtype and is converted on the way, without a copy of it. Same number of
// elements; sum is contiguous.
void add_to(const at::Tensor& sum, const at::Tensor& x);

}  // namespace qwen3::kernels
