#include "kernels/cpu/dispatch.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

namespace qwen3::kernels::cpu {
namespace {

constexpr int64_t kGrain = 16384;  // elements of a row kernel that are worth a thread
constexpr int64_t kRowBlock = 64;

}  // namespace

const RowKernels* row_kernels_for(std::initializer_list<at::Tensor> tensors) {
  const at::ScalarType dtype = tensors.begin()->scalar_type();
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.device().is_cpu() || tensor.scalar_type() != dtype) return nullptr;
  }
  static const InstructionSet& best = instruction_sets().best();
  if (dtype == at::kFloat) return &best.float32;
  if (dtype == at::kBFloat16) return &best.bfloat16;
  return nullptr;
}

const void* at_element(const at::Tensor& tensor, int64_t offset) {
  return static_cast<const char*>(tensor.const_data_ptr()) + offset * static_cast<int64_t>(tensor.element_size());
}

void* at_mutable_element(const at::Tensor& tensor, int64_t offset) {
  return static_cast<char*>(tensor.mutable_data_ptr()) + offset * static_cast<int64_t>(tensor.element_size());
}

void for_rows(int64_t rows, int64_t dim, const std::function<void(int64_t first, int64_t rows)>& body) {
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, dim));
  at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) { body(begin, end - begin); });
}

at::Tensor sum_over_rows(int64_t rows, const at::Tensor& like,
                         const std::function<void(int64_t first, int64_t rows, float* sums)>& body) {
  const int64_t dim = like.numel(), blocks = (rows + kRowBlock - 1) / kRowBlock;
  const at::Tensor partial = at::zeros({blocks, dim}, at::kFloat);
  float* sums = partial.mutable_data_ptr<float>();
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, kRowBlock * dim));
  at::parallel_for(0, blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kRowBlock;
      body(first, std::min(kRowBlock, rows - first), sums + block * dim);
    }
  });
  std::vector<double> total(static_cast<size_t>(dim));
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t i = 0; i < dim; ++i) total[i] += static_cast<double>(sums[block * dim + i]);
  }
  return at::tensor(total, at::kDouble).to(like.scalar_type());
}

}  // namespace qwen3::kernels::cpu
