#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <utility>

#include "parallel/cuda/cuda.h"
#include "parallel/cuda/kernels.h"

namespace qwen3::parallel::cuda {

bool available() { return c10::cuda::device_count() > 0; }

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t size,
                                                    std::chrono::milliseconds timeout) {
  TORCH_CHECK(available(), "an NCCL group needs a GPU, and this machine has none");
  auto options = c10d::ProcessGroupNCCL::Options::create(/*is_high_priority_stream=*/true);
  options->timeout = timeout;
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(std::move(store), static_cast<int>(rank), static_cast<int>(size),
                                                     std::move(options));
}

at::Tensor tree_sum(const at::Tensor& rows) {
  TORCH_CHECK(rows.is_cuda() && rows.is_contiguous() && rows.dim() >= 1 && rows.size(0) >= 1,
              "tree_sum wants contiguous rows [n >= 1, ...] on a GPU, got ", rows.sizes(), " on ", rows.device());
  at::Tensor sum = at::empty(rows.sizes().slice(1), rows.options());
  const auto stream = c10::cuda::getCurrentCUDAStream(rows.device().index());
  if (rows.scalar_type() == at::kFloat) {
    launch_tree_sum(rows.const_data_ptr<float>(), sum.mutable_data_ptr<float>(), rows.size(0), sum.numel(), stream);
  } else if (rows.scalar_type() == at::kDouble) {
    launch_tree_sum(rows.const_data_ptr<double>(), sum.mutable_data_ptr<double>(), rows.size(0), sum.numel(), stream);
  } else {
    TORCH_CHECK(false, "tree_sum adds float32 or float64, got ", rows.scalar_type());
  }
  return sum;
}

}  // namespace qwen3::parallel::cuda
