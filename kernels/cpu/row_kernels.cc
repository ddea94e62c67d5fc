// Compiled once for each instruction set, with QWEN3_ISA as its name. Includes nothing that has inline functions: the
// linker keeps one copy of those, which may then be one for a newer processor.
#include "kernels/cpu/row_kernels.h"

namespace qwen3::kernels::cpu {
namespace {

constexpr int64_t kLanes = 16;
using Vector = float __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Shorts = uint16_t __attribute__((vector_size(32)));

Words bits_of(const Vector& value) {
  Words bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

Vector from_bits(const Words& bits) {
  Vector value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

int64_t lanes_left(int64_t i, int64_t end) { return end - i < kLanes ? end - i : kLanes; }

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
float sum_of(const Vector& lanes) {
  float sums[kLanes];
  __builtin_memcpy(sums, &lanes, sizeof(lanes));
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i) sums[i] += sums[i + width];
  }
  return sums[0];
}

// e^x to 2 ulp: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial for e^r (Cephes, expf), times 2^n. Outside of
// [-87, 88] as at that end; a NaN stays one.
Vector exponential(Vector x) {
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

Vector sigmoid(const Vector& x) { return 1.0f / (1.0f + exponential(-x)); }

template <typename T>
float inverse_rms_of(const typename T::Element* x, int64_t dim, float eps) {
  Vector even{}, odd{};
  int64_t i = 0;
  for (; i + 2 * kLanes <= dim; i += 2 * kLanes) {
    const Vector a = T::load(x + i, kLanes), b = T::load(x + i + kLanes, kLanes);
    even += a * a;
    odd += b * b;
  }
  for (; i < dim; i += kLanes) {
    const Vector a = T::load(x + i, lanes_left(i, dim));
    even += a * a;
  }
  return 1.0f / __builtin_sqrtf(sum_of(even + odd) / static_cast<float>(dim) + eps);
}

template <typename T>
void norm(const void* x_data, const void* weight_data, float eps, int64_t rows, int64_t dim, void* y_data,
          float* inverse_rms) {
  const auto* x = static_cast<const typename T::Element*>(x_data);
  const auto* weight = static_cast<const typename T::Element*>(weight_data);
  auto* y = static_cast<typename T::Element*>(y_data);
  for (int64_t row = 0; row < rows; ++row, x += dim, y += dim) {
    const float inverse = inverse_rms[row] = inverse_rms_of<T>(x, dim, eps);
    for (int64_t i = 0; i < dim; i += kLanes) {
      const int64_t n = lanes_left(i, dim);
      T::store(y + i, T::load(x + i, n) * inverse * T::load(weight + i, n), n);
    }
  }
}

// d/dx = (w g - n mean(w g n)) / rms and d/dw = g n, with n = x / rms.
template <typename T>
void norm_backward(const void* gradient_data, const void* x_data, const void* weight_data, const float* inverse_rms,
                   int64_t rows, int64_t dim, void* x_gradient_data, float* weight_gradient) {
  const auto* gradient = static_cast<const typename T::Element*>(gradient_data);
  const auto* x = static_cast<const typename T::Element*>(x_data);
  const auto* weight = static_cast<const typename T::Element*>(weight_data);
  auto* x_gradient = static_cast<typename T::Element*>(x_gradient_data);
  for (int64_t row = 0; row < rows; ++row, gradient += dim, x += dim, x_gradient += dim) {
    const float inverse = inverse_rms[row];
    Vector along{};
    for (int64_t i = 0; i < dim; i += kLanes) {
      const int64_t n = lanes_left(i, dim);
      const Vector part = T::load(gradient + i, n) * (T::load(x + i, n) * inverse);
      along += part * T::load(weight + i, n);
      Float32::store(weight_gradient + i, Float32::load(weight_gradient + i, n) + part, n);
    }
    const float mean = sum_of(along) / static_cast<float>(dim);
    for (int64_t i = 0; i < dim; i += kLanes) {
      const int64_t n = lanes_left(i, dim);
      const Vector weighted = T::load(gradient + i, n) * T::load(weight + i, n);
      T::store(x_gradient + i, (weighted - T::load(x + i, n) * inverse * mean) * inverse, n);
    }
  }
}

template <typename T>
void norm_rotate(const void* x_data, const void* weight_data, const float* cos, const float* sin, float eps,
                 int64_t first, int64_t rows, int64_t heads, int64_t dim, void* y_data, float* inverse_rms) {
  const int64_t half = dim / 2;
  const auto* x = static_cast<const typename T::Element*>(x_data);
  const auto* weight = static_cast<const typename T::Element*>(weight_data);
  auto* y = static_cast<typename T::Element*>(y_data);
  for (int64_t row = 0; row < rows; ++row, x += dim, y += dim) {
    const int64_t angles = (first + row) / heads * half;
    const float inverse = inverse_rms[row] = inverse_rms_of<T>(x, dim, eps);
    for (int64_t i = 0; i < half; i += kLanes) {
      const int64_t n = lanes_left(i, half);
      const Vector c = Float32::load(cos + angles + i, n), s = Float32::load(sin + angles + i, n);
      const Vector low = T::load(x + i, n) * inverse * T::load(weight + i, n);
      const Vector high = T::load(x + half + i, n) * inverse * T::load(weight + half + i, n);
      T::store(y + i, low * c - high * s, n);
      T::store(y + half + i, high * c + low * s, n);
    }
  }
}

template <typename T>
void norm_rotate_backward(const void* gradient_data, const void* x_data, const void* weight_data,
                          const float* inverse_rms, const float* cos, const float* sin, int64_t first, int64_t rows,
                          int64_t heads, int64_t dim, void* x_gradient_data, float* weight_gradient) {
  const int64_t half = dim / 2;
  const auto* gradient = static_cast<const typename T::Element*>(gradient_data);
  const auto* x = static_cast<const typename T::Element*>(x_data);
  const auto* weight = static_cast<const typename T::Element*>(weight_data);
  auto* x_gradient = static_cast<typename T::Element*>(x_gradient_data);
  for (int64_t row = 0; row < rows; ++row, gradient += dim, x += dim, x_gradient += dim) {
    const int64_t angles = (first + row) / heads * half;
    const float inverse = inverse_rms[row];
    struct Pair {
      Vector low, high;
    };
    const auto turned_back = [&](int64_t i, int64_t n) -> Pair {  // the gradient of the norm's output
      const Vector c = Float32::load(cos + angles + i, n), s = Float32::load(sin + angles + i, n);
      const Vector low = T::load(gradient + i, n), high = T::load(gradient + half + i, n);
      return {low * c + high * s, high * c - low * s};
    };
    const auto add_to = [](float* sums, const Vector& part, int64_t n) {
      Float32::store(sums, Float32::load(sums, n) + part, n);
    };
    Vector along{};
    for (int64_t i = 0; i < half; i += kLanes) {
      const int64_t n = lanes_left(i, half);
      const Pair g = turned_back(i, n);
      const Vector low = g.low * (T::load(x + i, n) * inverse), high = g.high * (T::load(x + half + i, n) * inverse);
      along += low * T::load(weight + i, n) + high * T::load(weight + half + i, n);
      add_to(weight_gradient + i, low, n);
      add_to(weight_gradient + half + i, high, n);
    }
    const float mean = sum_of(along) / static_cast<float>(dim);
    for (int64_t i = 0; i < half; i += kLanes) {
      const int64_t n = lanes_left(i, half);
      const Pair g = turned_back(i, n);
      const Vector low = g.low * T::load(weight + i, n), high = g.high * T::load(weight + half + i, n);
      T::store(x_gradient + i, (low - T::load(x + i, n) * inverse * mean) * inverse, n);
      T::store(x_gradient + half + i, (high - T::load(x + half + i, n) * inverse * mean) * inverse, n);
    }
  }
}

template <typename T>
void swiglu(const void* gate_data, const void* up_data, int64_t count, void* out_data) {
  const auto* gate = static_cast<const typename T::Element*>(gate_data);
  const auto* up = static_cast<const typename T::Element*>(up_data);
  auto* out = static_cast<typename T::Element*>(out_data);
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t n = lanes_left(i, count);
    const Vector g = T::load(gate + i, n);
    T::store(out + i, g * sigmoid(g) * T::load(up + i, n), n);
  }
}

template <typename T>
void swiglu_backward(const void* gradient_data, const void* gate_data, const void* up_data, int64_t count,
                     void* gate_gradient_data, void* up_gradient_data) {
  const auto* gradient = static_cast<const typename T::Element*>(gradient_data);
  const auto* gate = static_cast<const typename T::Element*>(gate_data);
  const auto* up = static_cast<const typename T::Element*>(up_data);
  auto* gate_gradient = static_cast<typename T::Element*>(gate_gradient_data);
  auto* up_gradient = static_cast<typename T::Element*>(up_gradient_data);
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t n = lanes_left(i, count);
    const Vector d = T::load(gradient + i, n), g = T::load(gate + i, n), s = sigmoid(g);
    T::store(up_gradient + i, d * (g * s), n);
    T::store(gate_gradient + i, d * T::load(up + i, n) * s * (1.0f + g * (1.0f - s)), n);
  }
}

template <typename T>
void add(const void* x_data, int64_t count, float* sum) {
  const auto* x = static_cast<const typename T::Element*>(x_data);
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t n = lanes_left(i, count);
    Float32::store(sum + i, Float32::load(sum + i, n) + T::load(x + i, n), n);
  }
}

template <typename T>
constexpr RowKernels kKernels = {norm<T>,   norm_backward<T>,   norm_rotate<T>, norm_rotate_backward<T>,
                                 swiglu<T>, swiglu_backward<T>, add<T>};

}  // namespace

namespace QWEN3_ISA {
extern const RowKernels kFloat32, kBfloat16;
const RowKernels kFloat32 = kKernels<Float32>, kBfloat16 = kKernels<Bfloat16>;
}  // namespace QWEN3_ISA

}  // namespace qwen3::kernels::cpu
