#include <algorithm>
#include <stdexcept>
#include <string>

#include "parallel/cuda/kernels.h"

namespace qwen3::parallel::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxLevels = 63;  // partial sums of fewer than 2^63 rows

// One element of the sum for each turn of a thread. A binary counter over the rows: entry i of `partial` is the sum of
// a whole subtree, wider subtrees first, exactly as parallel/ordered_sum.h adds.
template <typename T>
__global__ void tree_sum(const T* __restrict__ rows, T* __restrict__ sum, int64_t n, int64_t width) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < width; i += stride) {
    T partial[kMaxLevels];
    int count = 0;
    for (int64_t row = 0; row < n; ++row) {
      T value = rows[row * width + i];
      for (int64_t carry = row; carry & 1; carry >>= 1) value = partial[--count] + value;
      partial[count++] = value;
    }
    T total = partial[--count];
    while (count > 0) total = partial[--count] + total;
    sum[i] = total;
  }
}

template <typename T>
void launch(const T* rows, T* sum, int64_t n, int64_t width, cudaStream_t stream) {
  if (width == 0) return;
  const int64_t blocks = std::min<int64_t>((width + kThreads - 1) / kThreads, 65536);
  tree_sum<T><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(rows, sum, n, width);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) throw std::runtime_error(std::string("tree_sum: ") + cudaGetErrorString(error));
}

}  // namespace

void launch_tree_sum(const float* rows, float* sum, int64_t n, int64_t width, cudaStream_t stream) {
  launch(rows, sum, n, width, stream);
}
void launch_tree_sum(const double* rows, double* sum, int64_t n, int64_t width, cudaStream_t stream) {
  launch(rows, sum, n, width, stream);
}

}  // namespace qwen3::parallel::cuda
