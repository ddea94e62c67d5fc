// Conversions between the float formats of weights. Widening is exact; narrowing rounds to nearest, ties to even, what
// is too large becomes infinite. A NaN stays a NaN, and one that a narrow format can hold comes back bit for bit.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "checkpoint/safetensors.h"

namespace qwen3::checkpoint {

uint16_t bfloat16_bits(float value);
uint16_t float16_bits(float value);
float bfloat16_value(uint16_t bits);
float float16_value(uint16_t bits);

// Whether weights may have this dtype: float32, bfloat16, float16 or float64.
bool is_float(Dtype dtype);

// `from` as `as`, both contiguous and of equally many elements; neither needs to be aligned. Both dtypes are floats, or
// the same, which copies. float64 to a 16-bit format rounds twice, by way of float32.
void convert_values(std::span<const std::byte> from, Dtype dtype, std::span<std::byte> into, Dtype as);

}  // namespace qwen3::checkpoint
