#include "model/init.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "model/philox.h"

namespace qwen3::model {
namespace {

constexpr int64_t kPerCounter = 4;  // values that one counter gives

// Four independent N(0, 1) values in float64: Box-Muller on the pairs (0, 1) and (2, 3).
std::array<double, kPerCounter> normal_values(uint64_t counter, uint64_t key) {
  const std::array<uint32_t, 4> bits =
      philox4x32_10({static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0},
                    {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)});
  constexpr double kTwoToMinus32 = 1.0 / 4294967296.0;
  std::array<double, kPerCounter> values;
  for (int i = 0; i < kPerCounter; i += 2) {
    const double radius = std::sqrt(-2.0 * std::log((bits[i] + 1.0) * kTwoToMinus32));  // of (0, 1]: finite
    const double angle = 2.0 * std::numbers::pi * (bits[i + 1] * kTwoToMinus32);
    values[i] = radius * std::cos(angle);
    values[i + 1] = radius * std::sin(angle);
  }
  return values;
}

template <typename Scalar>
void fill_normal(Scalar* out, int64_t first, int64_t count, uint64_t key, double std) {
  const int64_t first_counter = first / kPerCounter;
  const int64_t end_counter = (first + count + kPerCounter - 1) / kPerCounter;
  at::parallel_for(first_counter, end_counter, /*grain_size=*/4096, [&](int64_t begin, int64_t end) {
    for (int64_t counter = begin; counter < end; ++counter) {
      const std::array<double, kPerCounter> values = normal_values(static_cast<uint64_t>(counter), key);
      const int64_t low = std::max(counter * kPerCounter, first);
      const int64_t high = std::min((counter + 1) * kPerCounter, first + count);
      for (int64_t i = low; i < high; ++i) {
        out[i - first] = static_cast<float>(std * values[i - counter * kPerCounter]);  // float32 also for float64
      }
    }
  });
}

}  // namespace

void fill_initial(at::Tensor slice, const Parameter& parameter, uint64_t seed, int64_t first) {
  int64_t numel = 1;
  for (const int64_t size : parameter.shape) numel *= size;
  TORCH_CHECK_VALUE(slice.device().is_cpu() && slice.is_contiguous(), "fill_initial of ", parameter.name,
                    ": the slice must be a contiguous CPU tensor");
  TORCH_CHECK_VALUE(first >= 0 && first + slice.numel() <= numel, "fill_initial of ", parameter.name, ": elements [",
                    first, ", ", first + slice.numel(), ") asked for, but the tensor has ", numel);
  if (parameter.init == Init::kOnes) {
    slice.fill_(1);
    return;
  }
  const uint64_t key = XXH64(parameter.tensor.data(), parameter.tensor.size(), seed);
  switch (slice.scalar_type()) {
    case at::kFloat:
      return fill_normal(slice.mutable_data_ptr<float>(), first, slice.numel(), key, parameter.init_std);
    case at::kDouble:
      return fill_normal(slice.mutable_data_ptr<double>(), first, slice.numel(), key, parameter.init_std);
    default:
      TORCH_CHECK_VALUE(false, "fill_initial of ", parameter.name, ": dtype ", slice.scalar_type(),
                        " given, float32 or float64 wanted");
  }
}

}  // namespace qwen3::model
