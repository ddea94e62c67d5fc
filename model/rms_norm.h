// Root-mean-square layer norm (Zhang & Sennrich 2019, arXiv:1910.07467).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "model/parameter.h"

namespace qwen3::model {

// y = x / sqrt(mean(x^2) + eps) * weight, the mean over the last dim. x [..., dim] -> [..., dim].
// Computed in float32 or wider whatever the dtype of x, and rounded once: y has the dtype of x.
// The backward keeps x and one number per row.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

class RmsNorm {
 public:
  RmsNorm(ParameterSet& parameters, std::string name, int64_t dim, double eps);
  at::Tensor forward(const at::Tensor& x) const { return rms_norm(x, weight_.weight, eps_); }

 private:
  double eps_;
  const Parameter& weight_;  // [dim], initialised to ones
};

}  // namespace qwen3::model
