// Sixteen float32 values as one, for sources that are compiled for one instruction set. Everything is internal to the
// source that includes it: the linker would keep one copy, which may then be one for a newer processor.
#pragma once
#include <cstdint>

namespace qwen3::kernels::cpu {
namespace {

constexpr int64_t kLanes = 16;
using Vector = float __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Shorts = uint16_t __attribute__((vector_size(32)));

[[maybe_unused]] Words bits_of(const Vector& value) {
  Words bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

[[maybe_unused]] Vector from_bits(const Words& bits) {
  Vector value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

[[maybe_unused]] int64_t lanes_left(int64_t i, int64_t end) { return end - i < kLanes ? end - i : kLanes; }

// The first n of the lanes; the others are zeros.
template <typename Register, typename Element>
Register load_bits(const Element* from, int64_t n) {
  Register value{};
  if (n == kLanes) {
    __builtin_memcpy(&value, from, sizeof(value));
  } else {
    Element lanes[kLanes] = {};
    for (int64_t i = 0; i < n; ++i) lanes[i] = from[i];
    __builtin_memcpy(&value, lanes, sizeof(value));
  }
  return value;
}

template <typename Register, typename Element>
void store_bits(Element* to, const Register& value, int64_t n) {
  if (n == kLanes) {
    __builtin_memcpy(to, &value, sizeof(value));
  } else {
    Element lanes[kLanes];
    __builtin_memcpy(lanes, &value, sizeof(value));
    for (int64_t i = 0; i < n; ++i) to[i] = lanes[i];
  }
}

struct Float32 {
  using Element = float;
  static Vector load(const float* from, int64_t n) { return load_bits<Vector>(from, n); }
  static void store(float* to, const Vector& value, int64_t n) { store_bits(to, value, n); }
};

struct Bfloat16 {
  using Element = uint16_t;
  static Vector load(const uint16_t* from, int64_t n) {
    return from_bits(__builtin_convertvector(load_bits<Shorts>(from, n), Words) << 16);
  }
  static void store(uint16_t* to, const Vector& value, int64_t n) {
    const Words bits = bits_of(value);
    const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const Words no_number = Words{} + 0x7fc0u;
    store_bits(to, __builtin_convertvector(value == value ? rounded : no_number, Shorts), n);
  }
};

// A fixed tree.
[[maybe_unused]] float sum_of(const Vector& lanes) {
  float sums[kLanes];
  __builtin_memcpy(sums, &lanes, sizeof(lanes));
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i) sums[i] += sums[i + width];
  }
  return sums[0];
}

// e^x to 2 ulp: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial for e^r (Cephes, expf), times 2^n. Outside of
// [-87, 88] as at that end; a NaN stays one.
[[maybe_unused]] Vector exponential(Vector x) {
  const Vector low = Vector{} - 87.0f, high = Vector{} + 88.0f;
  x = x < low ? low : x;
  x = x > high ? high : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const Vector shifted = x * 1.44269504088896341f + kRound;
  const Vector n = shifted - kRound;
  const Vector r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Vector p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return p * from_bits((bits_of(shifted) + 127u) << 23);  // kRound's own bits are shifted out
}

}  // namespace
}  // namespace qwen3::kernels::cpu
