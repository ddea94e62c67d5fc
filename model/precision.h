// In which dtype statistics, softmax and losses are computed.
#pragma once
#include <c10/core/ScalarType.h>

namespace qwen3::model {

// At least float32: float64 stays float64, float32 and bfloat16 give float32.
inline at::ScalarType accumulate_dtype(at::ScalarType dtype) { return dtype == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace qwen3::model
