// The fused operations on tensors: against their references in ATen, for layouts and threads.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "kernels/norm_rotate.h"
#include "kernels/rms_norm.h"
#include "kernels/sum.h"
#include "kernels/swiglu.h"

namespace qwen3::kernels {
namespace {

constexpr double kEps = 1e-6;

at::Tensor random(at::IntArrayRef shape, uint64_t seed, at::ScalarType dtype) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::empty(shape, at::kDouble).uniform_(-1, 1, generator).to(dtype);
}

void expect_close(const at::Tensor& got, const at::Tensor& want) {
  ASSERT_EQ(got.sizes(), want.sizes());
  ASSERT_EQ(got.scalar_type(), want.scalar_type());
  // Both round a few times in float32; in bfloat16 the reference of swiglu rounds after each of its operations.
  const double bound = got.scalar_type() == at::kBFloat16 ? 6e-3 : got.scalar_type() == at::kFloat ? 1e-6 : 0;
  const at::Tensor wide = want.to(at::kDouble);
  EXPECT_LE((got.to(at::kDouble) - wide).norm().item<double>(), bound * wide.norm().item<double>());
}

class Fused : public ::testing::TestWithParam<at::ScalarType> {};
INSTANTIATE_TEST_SUITE_P(Dtypes, Fused, ::testing::Values(at::kBFloat16, at::kFloat, at::kDouble),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

TEST_P(Fused, NormEqualsItsReferenceAlsoForStridedTensors) {
  const at::Tensor x = random({7, 300, 40}, 1, GetParam()).transpose(0, 1), weight = random({40}, 2, GetParam());
  const at::Tensor gradient = random({300, 40, 7}, 3, GetParam()).transpose(1, 2);
  const auto [y, inverse_rms] = rms_norm(x, weight, kEps);
  const auto [want_y, want_inverse_rms] = reference::rms_norm(x, weight, kEps);
  expect_close(y, want_y);
  expect_close(inverse_rms, want_inverse_rms);
  const auto [x_gradient, weight_gradient] = rms_norm_backward(gradient, x, weight, inverse_rms);
  const auto [want_x, want_weight] = reference::rms_norm_backward(gradient, x, weight, want_inverse_rms);
  expect_close(x_gradient, want_x);
  expect_close(weight_gradient, want_weight);
}

TEST_P(Fused, NormRotateEqualsItsReferenceAlsoForStridedTensors) {
  const auto wide = GetParam() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor x = random({2, 3, 50, 16}, 1, GetParam()).transpose(1, 2), weight = random({16}, 2, GetParam());
  const at::Tensor gradient = random({2, 3, 50, 16}, 3, GetParam()).transpose(1, 2);
  const at::Tensor angles = random({2, 50, 8}, 4, wide), cos = angles.cos(), sin = angles.sin();
  const auto [y, inverse_rms] = norm_rotate(x, weight, kEps, cos, sin);
  const auto [want_y, want_inverse_rms] = reference::norm_rotate(x, weight, kEps, cos, sin);
  expect_close(y, want_y);
  expect_close(inverse_rms, want_inverse_rms);
  const auto [x_gradient, weight_gradient] = norm_rotate_backward(gradient, x, weight, inverse_rms, cos, sin);
  const auto [want_x, want_weight] = reference::norm_rotate_backward(gradient, x, weight, want_inverse_rms, cos, sin);
  expect_close(x_gradient, want_x);
  expect_close(weight_gradient, want_weight);
}

TEST_P(Fused, SwigluEqualsItsReferenceAlsoForStridedTensors) {
  const at::Tensor gate = random({33, 70}, 1, GetParam()).t(), up = random({70, 33}, 2, GetParam());
  const at::Tensor gradient = random({70, 33}, 3, GetParam());
  expect_close(swiglu(gate, up), reference::swiglu(gate, up));
  const auto [gate_gradient, up_gradient] = swiglu_backward(gradient, gate, up);
  const auto [want_gate, want_up] = reference::swiglu_backward(gradient, gate, up);
  expect_close(gate_gradient, want_gate);
  expect_close(up_gradient, want_up);
}

TEST_P(Fused, NoRowsGiveNoRowsAndAZeroWeightGradient) {
  const at::Tensor x = random({0, 40}, 1, GetParam()), weight = random({40}, 2, GetParam());
  const auto [y, inverse_rms] = rms_norm(x, weight, kEps);
  EXPECT_EQ(y.sizes(), x.sizes());
  EXPECT_EQ(rms_norm_backward(y, x, weight, inverse_rms).second.abs().sum().item<double>(), 0);
  EXPECT_EQ(swiglu(x, x).numel(), 0);
}

TEST_P(Fused, AddToEqualsTheSumOfTheConverted) {
  const auto wide = GetParam() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor sum = random({7, 5001}, 1, wide), x = random({5001, 7}, 2, GetParam()).t();
  const at::Tensor want = sum + x.to(wide);
  add_to(sum, x);
  EXPECT_TRUE(at::equal(sum, want));
}

TEST(FusedThreads, DoNotChangeABit) {
  const at::Tensor x = random({1, 5000, 1, 64}, 1, at::kFloat), weight = random({64}, 2, at::kFloat);
  const at::Tensor gradient = random({1, 5000, 1, 64}, 3, at::kFloat), angles = random({1, 5000, 32}, 4, at::kFloat);
  const auto run = [&](int threads) {
    at::set_num_threads(threads);
    const auto [y, inverse_rms] = rms_norm(x, weight, kEps);
    const auto plain = rms_norm_backward(gradient, x, weight, inverse_rms);
    const auto rotated = norm_rotate_backward(gradient, x, weight, inverse_rms, angles.cos(), angles.sin());
    return std::vector{y, plain.first, plain.second, rotated.first, rotated.second, swiglu(x, gradient)};
  };
  const int before = at::get_num_threads();
  const std::vector<at::Tensor> one = run(1), three = run(3);
  at::set_num_threads(before);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], three[i])) << "result " << i;
}

}  // namespace
}  // namespace qwen3::kernels
