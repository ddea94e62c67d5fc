// Float32 to the 16-bit formats, rounding to nearest even; a NaN stays a NaN, what is too large becomes infinite.
#pragma once
#include <cstdint>

namespace qwen3::checkpoint {

uint16_t bfloat16_bits(float value);
uint16_t float16_bits(float value);

}  // namespace qwen3::checkpoint
