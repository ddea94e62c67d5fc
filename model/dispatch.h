// The dispatcher of one device: every expert is here, so tokens are only put in the experts' order and back.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "model/seams.h"

namespace qwen3::model {

// As ExpertDispatch says. `order` is [T, k] int64: the row where a token's j-th choice lies.
Dispatched local_dispatch(const at::Tensor& x, const at::Tensor& chosen, int64_t experts);

// As ExpertCombine says; `route` is not used. No two rows are added but those of one token, so nothing depends on the
// number of threads.
at::Tensor local_combine(const at::Tensor& outputs, const at::Tensor& gates, const at::Tensor& order,
                         const at::Tensor& route = {});

}  // namespace qwen3::model
