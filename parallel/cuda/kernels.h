// Device code by plain pointers, so that nvcc compiles no header of LibTorch.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace qwen3::parallel::cuda {

// rows [n, width] -> sum [width], all on the device; n >= 1. Throws std::runtime_error if the launch is refused.
void launch_tree_sum(const float* rows, float* sum, int64_t n, int64_t width, cudaStream_t stream);
void launch_tree_sum(const double* rows, double* sum, int64_t n, int64_t width, cudaStream_t stream);

}  // namespace qwen3::parallel::cuda
