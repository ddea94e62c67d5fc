#include "kernels/sum.h"

#include <ATen/ATen.h>

#include "kernels/cpu/dispatch.h"

namespace qwen3::kernels {

void add_to(const at::Tensor& sum, const at::Tensor& x) {
  TORCH_CHECK_VALUE(sum.is_contiguous() && sum.numel() == x.numel(), "add_to: a contiguous sum of ", x.numel(),
                    " elements wanted, ", sum.sizes(), " with strides ", sum.strides(), " given");
  const cpu::RowKernels* kernels = sum.scalar_type() == at::kFloat ? cpu::row_kernels_for({x}) : nullptr;
  if (kernels == nullptr || !sum.device().is_cpu()) {
    sum.add_(x.reshape(sum.sizes()));
    return;
  }
  const at::Tensor in = x.contiguous();
  float* sums = sum.mutable_data_ptr<float>();
  cpu::for_rows(in.numel(), /*dim=*/1,
                [&](int64_t first, int64_t count) { kernels->add(cpu::at_element(in, first), count, sums + first); });
}

}  // namespace qwen3::kernels
