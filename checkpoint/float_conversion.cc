#include "checkpoint/float_conversion.h"

#include <bit>

namespace qwen3::checkpoint {
namespace {

// `bits` without its lowest `count` (1..31) bits, rounded to nearest, ties to even. A carry runs into the exponent,
// where it is right.
uint32_t round_off(uint32_t bits, int count) {
  const uint32_t half = 1U << (count - 1);
  const uint32_t odd = bits >> count & 1U;
  return (bits + half - 1 + odd) >> count;
}

constexpr uint32_t kInfinity = 0x7f800000;

}  // namespace

uint16_t bfloat16_bits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > kInfinity)
    return static_cast<uint16_t>(bits >> 16 | 0x40);  // quiet, or it might become inf
  return static_cast<uint16_t>(round_off(bits, 16));
}

uint16_t float16_bits(float value) {
  constexpr uint32_t kSmallestNormal = 113U << 23;  // 2^-14
  constexpr uint32_t kOverflow = 0x477ff000;        // 65520: halfway between the largest, 65504, and 65536
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > kInfinity) return static_cast<uint16_t>(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  if (magnitude >= kOverflow) return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude >= kSmallestNormal) return static_cast<uint16_t>(sign | round_off(magnitude - (112U << 23), 13));
  // Denormal: a multiple of 2^-24.
  const int shift = 126 - static_cast<int>(magnitude >> 23);
  if (shift > 24) return static_cast<uint16_t>(sign);  // below half of the smallest; 2^-25 itself has shift 24
  return static_cast<uint16_t>(sign | round_off((magnitude & 0x7fffff) | 0x800000, shift));
}

}  // namespace qwen3::checkpoint
