// Compiled once for each instruction set, with QWEN3_ISA as its name. Includes nothing that has inline functions: the
// linker keeps one copy of those, which may then be one for a newer processor.
#include "kernels/cpu/row_kernels.h"

#include "kernels/cpu/lanes.h"

namespace qwen3::kernels::cpu {
namespace {

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
