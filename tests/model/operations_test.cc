// Each hand-written operation against the same formula in plain ATen operations with ATen's own gradients.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <functional>

#include "model/attention.h"
#include "model/embedding.h"
#include "model/loss.h"
#include "model/rms_norm.h"
#include "model/rope.h"
#include "model/swiglu.h"

namespace qwen3::model {
namespace {

constexpr double kEps = 1e-6;
constexpr int64_t kChunk = 2;  // tokens in a chunk of the head
using Operation = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

at::Tensor random(at::IntArrayRef shape, uint64_t seed, double low = -1, double high = 1) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::empty(shape, at::kDouble).uniform_(low, high, generator);
}

// The value and the gradients of sum(value * cotangent) with respect to the inputs.
std::vector<at::Tensor> value_and_gradients(const Operation& operation, const std::vector<at::Tensor>& inputs,
                                            at::ScalarType dtype) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& input : inputs) leaves.push_back(input.to(dtype).detach().clone().requires_grad_());
  const at::Tensor value = operation(leaves);
  const at::Tensor cotangent =
      value.dim() == 0 ? at::ones_like(value) : random(value.sizes(), 99).to(value.scalar_type());
  std::vector<at::Tensor> results = torch::autograd::grad({value}, leaves, {cotangent});
  results.insert(results.begin(), value.detach());
  return results;
}

double relative_l2(const at::Tensor& got, const at::Tensor& want) {
  const at::Tensor wide = want.to(at::kDouble);
  return ((got.to(at::kDouble) - wide).norm() / wide.norm()).item<double>();
}

// float64: only rounding is left. float32 and bfloat16 are compared with the float64 result of the same rounded
// inputs: a few roundings of 6e-8 for float32, one or two of 2e-3 (half an ulp, uniform) for bfloat16.
void expect_same(const Operation& ours, const Operation& plain, const std::vector<at::Tensor>& inputs) {
  for (const auto& [dtype, bound] : {std::pair{at::kDouble, 1e-14}, {at::kFloat, 1e-6}, {at::kBFloat16, 4e-3}}) {
    std::vector<at::Tensor> rounded;
    for (const at::Tensor& input : inputs) rounded.push_back(input.to(dtype).to(at::kDouble));
    const auto got = value_and_gradients(ours, rounded, dtype);
    const auto want = value_and_gradients(plain, rounded, at::kDouble);
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(got[i].sizes(), want[i].sizes());
      EXPECT_LE(relative_l2(got[i], want[i]), bound) << c10::toString(dtype) << ", result " << i << " (0: the value)";
    }
  }
}

at::Tensor plain_norm(const at::Tensor& x, const at::Tensor& weight) {
  return x / (x.square().mean(-1, true) + kEps).sqrt() * weight;
}

TEST(RmsNorm, EqualsTheFormulaForwardAndBackward) {
  expect_same([](const auto& in) { return rms_norm(in[0], in[1], kEps); },
              [](const auto& in) { return plain_norm(in[0], in[1]); },
              {random({3, 5, 48}, 1), random({48}, 2, 0.5, 1.5)});
}

TEST(Rope, NormAndRotateEqualsTheFormulaForwardAndBackward) {
  const at::Tensor positions = at::arange(7).sub(3).clamp_min(0).add(at::tensor({0, 900}).unsqueeze(1));  // [2, 7]
  const auto plain = [&](const std::vector<at::Tensor>& in) {
    const at::Tensor x = plain_norm(in[0], in[1]);
    const at::Tensor frequencies = at::pow(1e6, -at::arange(0, 16, 2, at::kDouble) / 16);
    const at::Tensor angles = (positions.unsqueeze(-1) * frequencies).unsqueeze(2);  // [B, S, 1, E/2]
    const at::Tensor low = x.slice(-1, 0, 8), high = x.slice(-1, 8, 16);
    return at::cat({low * angles.cos() - high * angles.sin(), high * angles.cos() + low * angles.sin()}, -1);
  };
  const auto ours = [&](const std::vector<at::Tensor>& in) {
    return norm_and_rotate(in[0], in[1], kEps, make_rotary(positions, 16, 1e6, in[0].scalar_type()));
  };
  // Angles at position 900 are off by up to 900 roundings (1e-16, 6e-8): that is in the formula, not in the operation.
  for (const auto& [dtype, bound] : {std::pair{at::kDouble, 1e-13}, {at::kFloat, 5e-5}, {at::kBFloat16, 4e-3}}) {
    const std::vector<at::Tensor> inputs = {random({2, 7, 3, 16}, 1).to(dtype).to(at::kDouble),
                                            random({16}, 2, 0.5, 1.5).to(dtype).to(at::kDouble)};
    const auto got = value_and_gradients(ours, inputs, dtype), want = value_and_gradients(plain, inputs, at::kDouble);
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_LE(relative_l2(got[i], want[i]), bound) << c10::toString(dtype) << ", result " << i;
    }
  }
}

TEST(Rope, DependsOnDistanceOnly) {
  const at::Tensor q = random({1, 1, 1, 16}, 1), k = random({1, 1, 1, 16}, 2), ones = at::ones({16}, at::kDouble);
  const auto score = [&](int64_t at_q, int64_t at_k) {
    const auto turned = [&](const at::Tensor& x, int64_t position) {
      return norm_and_rotate(x, ones, kEps, make_rotary(at::full({1, 1}, position, at::kLong), 16, 1e6, at::kDouble));
    };
    return (turned(q, at_q) * turned(k, at_k)).sum().item<double>();
  };
  EXPECT_NEAR(score(5, 3), score(1005, 1003), 1e-10);  // angles of 1000 rad have an ulp of 1e-13
  EXPECT_GT(std::abs(score(5, 3) - score(5, 4)), 1e-3);
}

TEST(Swiglu, EqualsTheFormulaForwardAndBackward) {
  expect_same([](const auto& in) { return swiglu(in[0], in[1]); },
              [](const auto& in) { return in[0] * in[0].sigmoid() * in[1]; },
              {random({4, 33}, 1, -6, 6), random({4, 33}, 2, -2, 2)});
}

// With and without a second document: in bfloat16 a plain causal mask may take a path of its own.
TEST(Attention, EqualsTheFormulaForwardAndBackward) {
  const int64_t length = 70, half = 40;
  for (const bool packed : {false, true}) {
    SCOPED_TRACE(packed ? "two documents" : "one document");
    at::Tensor positions = at::arange(length).unsqueeze(0).repeat({2, 1});
    if (packed) positions.narrow(1, half, length - half).sub_(half);
    const at::Tensor allowed = at::ones({length, length}, at::kBool).tril();
    if (packed) allowed.narrow(0, half, length - half).narrow(1, 0, half).fill_(false);
    const auto plain = [&](const std::vector<at::Tensor>& in) {
      const at::Tensor k = in[1].repeat_interleave(2, 1), v = in[2].repeat_interleave(2, 1);
      const at::Tensor scores = at::matmul(in[0], k.transpose(2, 3)) / std::sqrt(32.0);
      return at::matmul(at::softmax(scores.masked_fill(allowed.logical_not(), -1e30), -1), v);
    };
    const auto ours = [&](const std::vector<at::Tensor>& in) {
      return plain_attention(in[0], in[1], in[2], document_mask(positions, in[0].scalar_type()));
    };
    const std::vector<at::Tensor> inputs = {random({2, 4, length, 32}, 1, -2, 2), random({2, 2, length, 32}, 2, -2, 2),
                                            random({2, 2, length, 32}, 3, -2, 2)};
    // bfloat16 also rounds probabilities and score gradients; float32 adds in another order.
    for (const auto& [dtype, bound] : {std::pair{at::kDouble, 1e-13}, {at::kFloat, 2e-6}, {at::kBFloat16, 1e-2}}) {
      std::vector<at::Tensor> rounded;
      for (const at::Tensor& input : inputs) rounded.push_back(input.to(dtype).to(at::kDouble));
      const auto got = value_and_gradients(ours, rounded, dtype),
                 want = value_and_gradients(plain, rounded, at::kDouble);
      for (size_t i = 0; i < want.size(); ++i) {
        EXPECT_EQ(got[i].sizes(), want[i].sizes());
        EXPECT_LE(relative_l2(got[i], want[i]), bound) << c10::toString(dtype) << ", result " << i << " (0: the value)";
      }
    }
  }
}

TEST(Embedding, GradientOfRepeatedIdsIsTheirSum) {
  const at::Tensor ids = at::tensor({3, 0, 3, 3, 6, 0, 3, 3}, at::kLong).view({2, 4});
  expect_same([&](const auto& in) { return embed(in[0], ids); },
              [&](const auto& in) {
                return in[0].index_select(0, ids.flatten()).view({2, 4, 5});
              },
              {random({9, 5}, 1)});
}

TEST(Embedding, Bfloat16GradientsAreSummedInFloat32) {
  const at::Tensor weight = at::zeros({2, 1}, at::kBFloat16).requires_grad_();
  const at::Tensor out = embed(weight, at::zeros({1, 1000}, at::kLong));
  out.backward(at::full_like(out, 1));
  EXPECT_EQ(weight.grad()[0].item<float>(), 1000);  // a bfloat16 sum of ones stops at 256
}

class HeadLoss : public ::testing::TestWithParam<int64_t> {};  // tokens in a chunk

TEST_P(HeadLoss, EqualsCrossEntropyOfFullLogits) {
  const int64_t vocab = 301, tokens = 67, dim = 8;
  const at::Tensor labels = random({tokens}, 3, 0, static_cast<double>(vocab)).to(at::kLong);
  labels.slice(0, 0, tokens, 3).fill_(kIgnoreIndex);
  const double scale = 0.25;
  const auto plain = [&](const std::vector<at::Tensor>& in) {
    const at::Tensor logits = at::mm(in[0], in[1].t());
    return at::nll_loss(at::log_softmax(logits, -1), labels, {}, at::Reduction::Sum, kIgnoreIndex) * scale;
  };
  expect_same([&](const auto& in) { return head_loss(in[0], in[1], labels, scale, GetParam()); }, plain,
              {random({tokens, dim}, 1), random({vocab, dim}, 2)});
}
INSTANTIATE_TEST_SUITE_P(ChunkSizes, HeadLoss, ::testing::Values(1, 16, 67, 4096));

TEST(HeadLoss, WithoutAnyLabelIsZeroWithZeroGradients) {
  const at::Tensor hidden = random({5, 4}, 1).requires_grad_(), weight = random({7, 4}, 2).requires_grad_();
  const at::Tensor loss = head_loss(hidden, weight, at::full({5}, kIgnoreIndex, at::kLong), 1, kChunk);
  loss.backward();
  EXPECT_EQ(loss.item<double>(), 0);
  EXPECT_EQ(hidden.grad().abs().max().item<double>(), 0);
  EXPECT_EQ(weight.grad().abs().max().item<double>(), 0);
}

TEST(HeadLoss, AnswersTheSameWithoutGradientsAndScalesAnOuterGradient) {
  const at::Tensor hidden = random({5, 4}, 1).requires_grad_(), weight = random({7, 4}, 2).requires_grad_();
  const at::Tensor labels = at::tensor({1, 6, 0, 0, 3}, at::kLong);
  const at::Tensor loss = head_loss(hidden, weight, labels, 1, kChunk);
  {
    torch::NoGradGuard no_gradients;
    EXPECT_TRUE(at::equal(head_loss(hidden, weight, labels, 1, kChunk), loss));
  }
  (loss * 3).backward();
  const at::Tensor tripled = weight.grad().clone();
  weight.mutable_grad().reset();
  head_loss(hidden, weight, labels, 3, kChunk).backward();
  EXPECT_LE(relative_l2(tripled, weight.grad()), 1e-15);
}

TEST(HeadLoss, SaysThatItsBackwardRunsOnce) {
  const at::Tensor weight = random({7, 4}, 2).requires_grad_();
  const at::Tensor loss = head_loss(random({5, 4}, 1), weight, at::zeros({5}, at::kLong), 1, kChunk);
  loss.backward({}, /*retain_graph=*/true);
  EXPECT_THROW(loss.backward(), c10::Error);
}

}  // namespace
}  // namespace qwen3::model
