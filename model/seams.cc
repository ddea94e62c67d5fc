#include "model/seams.h"

#include <ATen/ops/linear.h>

#include "model/attention.h"
#include "model/dispatch.h"

namespace qwen3::model {

Seams plain_seams() {
  return {
      .linear = [](const at::Tensor& x, const at::Tensor& weight, std::string_view) { return at::linear(x, weight); },
      .inner_attention = plain_attention,
      .dispatch = local_dispatch,
      .combine = local_combine,
      .around = [](size_t, const at::Tensor& x, const Layer& body) { return body(x); },
  };
}

}  // namespace qwen3::model
