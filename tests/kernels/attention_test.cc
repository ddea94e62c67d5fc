// Causal attention in bfloat16 against the formula in float64.
#include "kernels/attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <limits>

namespace qwen3::kernels {
namespace {

at::Tensor random(at::IntArrayRef shape, uint64_t seed, double size = 2) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::empty(shape, at::kDouble).uniform_(-size, size, generator).to(at::kBFloat16);
}

double relative_l2(const at::Tensor& got, const at::Tensor& want) {
  return ((got.to(at::kDouble) - want).norm() / want.norm()).item<double>();
}

struct Case {
  int64_t batch, length, heads, kv_heads, dim;
};

// Of random numbers; the results and their oracle.
struct Attention {
  explicit Attention(const Case& c)
      : q(random({c.batch, c.length, c.heads, c.dim}, 1)),
        k(random({c.batch, c.length, c.kv_heads, c.dim}, 2)),
        v(random({c.batch, c.length, c.kv_heads, c.dim}, 3)),
        gradient(random({c.batch, c.length, c.heads, c.dim}, 4)) {}

  // out and the gradients of q, k, v, in their own layout.
  std::vector<at::Tensor> run() const {
    const auto [out, log_sum_exp] = causal_attention(q, k, v);
    std::vector<at::Tensor> results = causal_attention_backward(gradient, q, k, v, out, log_sum_exp);
    results.insert(results.begin(), out);
    return results;
  }

  std::vector<at::Tensor> in_float64() const {
    const int64_t batch = q.size(0), length = q.size(1), kv_heads = k.size(2), group = q.size(2) / kv_heads;
    const auto wide = [](const at::Tensor& x) { return x.to(at::kDouble).transpose(1, 2); };
    const at::Tensor queries = wide(q), g = wide(gradient);
    const at::Tensor keys = wide(k).repeat_interleave(group, 1), values = wide(v).repeat_interleave(group, 1);
    const double scale = 1 / std::sqrt(static_cast<double>(q.size(3)));
    const at::Tensor future = at::full({length, length}, -std::numeric_limits<double>::infinity(), at::kDouble).triu(1);
    const at::Tensor p = at::softmax(at::matmul(queries, keys.transpose(2, 3)) * scale + future, -1);
    const at::Tensor out = at::matmul(p, values);
    const at::Tensor scores = p * (at::matmul(g, values.transpose(2, 3)) - (g * out).sum(-1, true)) * scale;
    const auto shared = [&](const at::Tensor& x) {  // summed over the heads that share it
      return x.reshape({batch, kv_heads, group, length, -1}).sum(2).transpose(1, 2);
    };
    return {out.transpose(1, 2), at::matmul(scores, keys).transpose(1, 2),
            shared(at::matmul(scores.transpose(2, 3), queries)), shared(at::matmul(p.transpose(2, 3), g))};
  }

  at::Tensor q, k, v, gradient;
};

class CausalAttention : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const at::Tensor one = at::zeros({64, 1, 1, 32}, at::kBFloat16);
    if (!takes_causal_attention(one, one, one)) GTEST_SKIP() << "this processor leaves attention to ATen";
  }
};
// One token, blocks that are not full, odd lengths, heads with k and v of their own, whole blocks.
INSTANTIATE_TEST_SUITE_P(Shapes, CausalAttention,
                         ::testing::Values(Case{1, 1, 1, 1, 32}, Case{2, 37, 2, 1, 32}, Case{1, 63, 3, 3, 64},
                                           Case{3, 65, 4, 2, 96}, Case{1, 256, 4, 1, 128}));

TEST_P(CausalAttention, EqualsTheFormulaForwardAndBackward) {
  const Attention attention(GetParam());
  const std::vector<at::Tensor> got = attention.run(), want = attention.in_float64();
  const char* const names[] = {"out", "q gradient", "k gradient", "v gradient"};
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(got[i].sizes(), want[i].sizes()) << names[i];
    if (want[i].norm().item<double>() < 1e-9) {  // one token: its only probability is 1 whatever its score
      EXPECT_LE(got[i].to(at::kDouble).norm().item<double>(), 0.05) << names[i];
      continue;
    }
    // Probabilities or score gradients, out, and the result are each rounded to bfloat16: 2^-9 = 2e-3 at most, 1e-3 or
    // so on average; differences of such numbers lose a little more.
    EXPECT_LE(relative_l2(got[i], want[i]), 6e-3) << names[i];
  }
}

TEST_P(CausalAttention, TakesStridedTensorsAndAnyNumberOfThreadsWithTheSameBits) {
  const Attention attention(GetParam());
  Attention strided = attention;
  const auto heads_first = [](const at::Tensor& x) { return x.transpose(1, 2).contiguous().transpose(1, 2); };
  strided.q = heads_first(attention.q), strided.k = heads_first(attention.k);
  strided.gradient = attention.gradient.transpose(2, 3).contiguous().transpose(2, 3);
  const std::vector<at::Tensor> plain = attention.run();
  const int before = at::get_num_threads();
  at::set_num_threads(3);
  const std::vector<at::Tensor> other = strided.run();
  at::set_num_threads(before);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(at::equal(plain[i], other[i])) << "result " << i;
}

TEST_P(CausalAttention, TheFutureChangesNoBit) {
  Attention attention(GetParam());
  const int64_t length = attention.q.size(1), half = length / 2;
  if (half == 0) return;
  const at::Tensor before = attention.run()[0].narrow(1, 0, half).clone();
  attention.k.narrow(1, half, length - half).fill_(7);
  attention.v.narrow(1, half, length - half).fill_(-3);
  EXPECT_TRUE(at::equal(attention.run()[0].narrow(1, 0, half), before));
}

TEST_P(CausalAttention, LargeScoresNeitherOverflowNorLoseTheLargest) {
  Attention attention(GetParam());
  attention.q.mul_(100);  // scores up to some thousands: e to that is infinite, so the largest must be taken off
  attention.k.mul_(10);
  for (const at::Tensor& result : attention.run()) EXPECT_TRUE(result.isfinite().all().item<bool>());
  EXPECT_LE(relative_l2(attention.run()[0], attention.in_float64()[0]), 6e-3);
}

}  // namespace
}  // namespace qwen3::kernels
