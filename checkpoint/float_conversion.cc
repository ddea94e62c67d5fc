#include "checkpoint/float_conversion.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <stdexcept>

namespace qwen3::checkpoint {
namespace {

// `bits` without its lowest `count` (1..31) bits, rounded to nearest, ties to even. A carry runs into the exponent,
// where it is right.
constexpr uint32_t round_off(uint32_t bits, int count) {
  const uint32_t half = 1U << (count - 1);
  const uint32_t odd = bits >> count & 1U;
  return (bits + half - 1 + odd) >> count;
}

constexpr uint32_t kInfinity = 0x7f800000;

// Loops of one operation per element, so that the compiler vectorises them (this file is compiled with -O3).
template <typename From, typename To, typename Convert>
void each(const std::byte* from, std::byte* into, size_t count, Convert convert) {
  for (size_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * sizeof(From), sizeof(From));
    const To converted = convert(value);
    std::memcpy(into + i * sizeof(To), &converted, sizeof(To));
  }
}

// bfloat16_bits without branches.
uint16_t bfloat16_of(uint32_t bits) {
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const uint32_t upper = bits >> 16;
  const uint32_t quiet = (upper & 0x7f) == 0 ? upper | 0x40 : upper;  // or it would become infinite
  return static_cast<uint16_t>((bits & 0x7fffffff) > kInfinity ? quiet : rounded);
}

void to_float32(const std::byte* from, Dtype dtype, std::byte* into, size_t count) {
  if (dtype == Dtype::kBfloat16) {
    each<uint16_t, uint32_t>(from, into, count, [](uint16_t bits) { return static_cast<uint32_t>(bits) << 16; });
  } else if (dtype == Dtype::kFloat16) {
    each<uint16_t, float>(from, into, count, float16_value);
  } else {
    each<double, float>(from, into, count, [](double value) { return static_cast<float>(value); });
  }
}

void from_float32(const std::byte* from, std::byte* into, Dtype as, size_t count) {
  if (as == Dtype::kBfloat16) {
    each<uint32_t, uint16_t>(from, into, count, bfloat16_of);
  } else if (as == Dtype::kFloat16) {
    each<float, uint16_t>(from, into, count, float16_bits);
  } else {
    each<float, double>(from, into, count, [](float value) { return static_cast<double>(value); });
  }
}

}  // namespace

uint16_t bfloat16_bits(float value) { return bfloat16_of(std::bit_cast<uint32_t>(value)); }

uint16_t float16_bits(float value) {
  constexpr uint32_t kSmallestNormal = 113U << 23;  // 2^-14
  constexpr uint32_t kOverflow = 0x477ff000;        // 65520: halfway between the largest, 65504, and 65536
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > kInfinity) {
    const uint32_t payload = magnitude >> 13 & 0x3ff;
    return static_cast<uint16_t>(sign | 0x7c00 | (payload == 0 ? 0x200 : payload));
  }
  if (magnitude >= kOverflow) return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude >= kSmallestNormal) return static_cast<uint16_t>(sign | round_off(magnitude - (112U << 23), 13));
  // Denormal: a multiple of 2^-24.
  const int shift = 126 - static_cast<int>(magnitude >> 23);
  if (shift > 24) return static_cast<uint16_t>(sign);  // below half of the smallest; 2^-25 itself has shift 24
  return static_cast<uint16_t>(sign | round_off((magnitude & 0x7fffff) | 0x800000, shift));
}

float bfloat16_value(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

float float16_value(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t magnitude = bits & 0x7fff;
  // A denormal is a whole number of 2^-24; a normal's exponent is re-biased; infinity and NaN have all exponent bits.
  const uint32_t denormal = std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24F);
  const uint32_t normal = (magnitude << 13) + (112U << 23);
  const uint32_t special = (magnitude << 13) | kInfinity;
  return std::bit_cast<float>(sign | (magnitude < 0x400 ? denormal : magnitude >= 0x7c00 ? special : normal));
}

bool is_float(Dtype dtype) {
  return dtype == Dtype::kFloat32 || dtype == Dtype::kBfloat16 || dtype == Dtype::kFloat16 || dtype == Dtype::kFloat64;
}

void convert_values(std::span<const std::byte> from, Dtype dtype, std::span<std::byte> into, Dtype as) {
  const size_t size = static_cast<size_t>(item_size(dtype)), wanted = static_cast<size_t>(item_size(as));
  const size_t count = from.size() / size;
  if (from.size() != count * size || into.size() != count * wanted) {
    throw std::invalid_argument("convert_values: the two spans have not equally many elements");
  }
  if (dtype == as) {
    std::memcpy(into.data(), from.data(), from.size());
  } else if (!is_float(dtype) || !is_float(as)) {
    throw std::invalid_argument("convert_values: not a float");
  } else if (as == Dtype::kFloat32) {
    to_float32(from.data(), dtype, into.data(), count);
  } else if (dtype == Dtype::kFloat32) {
    from_float32(from.data(), into.data(), as, count);
  } else {  // by way of float32, in pieces that stay in the cache
    std::array<float, 4096> piece;
    auto* middle = reinterpret_cast<std::byte*>(piece.data());
    for (size_t done = 0; done < count; done += piece.size()) {
      const size_t part = std::min(piece.size(), count - done);
      to_float32(from.data() + done * size, dtype, middle, part);
      from_float32(middle, into.data() + done * wanted, as, part);
    }
  }
}

}  // namespace qwen3::checkpoint
