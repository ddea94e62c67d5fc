// The mixture of experts on one device: choices, values and gradients against plain loops.
#include "model/moe.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "model/block.h"
#include "model/qwen3.h"

namespace qwen3::model {
namespace {

using ::testing::ElementsAre;
using Row = std::vector<double>;
using Matrix = std::vector<Row>;

constexpr int64_t kTokens = 40, kDim = 16, kHidden = 24, kExperts = 8, kChoices = 3;

spec::ModelShape tiny() {
  return {.flavor = "tiny_moe",
          .dim = kDim,
          .layers = 2,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 16,
          .vocab = 61,
          .max_seq_len = 64,
          .experts = kExperts,
          .experts_per_token = kChoices,
          .expert_hidden = kHidden};
}

// One MoE layer with larger weights than the initial ones, so that the router has opinions.
struct Layer {
  explicit Layer(at::ScalarType dtype, const spec::ModelShape& shape = tiny(), const spec::MoeSpec& spec = {}) {
    parameters.begin_unit("layers.0");
    moe = std::make_unique<Moe>(shape, spec, 0, parameters, seams);
    materialise(parameters, /*seed=*/3, dtype);
    torch::NoGradGuard no_gradients;
    for (Parameter* p : parameters.units()[0].parameters) p->weight.mul_(20);
  }
  at::Tensor forward(const at::Tensor& x, const RoutingContext& context = {}) {
    const Moe::Choice choice = moe->choose(x, context);
    const Dispatched to = moe->dispatch(x, choice.chosen);
    const Moe::GateUp hidden = moe->gate_up(to.rows, to.counts);
    return moe->combine(hidden.gate, hidden.up, to.counts, choice.gates, to.order, to.route);
  }
  const at::Tensor& weight(size_t i) const { return parameters.units()[0].parameters[i]->weight; }
  at::Tensor& bias() { return parameters.buffers().front().value; }

  Seams seams = plain_seams();
  ParameterSet parameters;
  std::unique_ptr<Moe> moe;
};

at::Tensor tokens(at::ScalarType dtype, int64_t count = kTokens) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(11);
  return at::empty({count, kDim}, at::kDouble).normal_(0, 1, generator).to(dtype);
}

Matrix matrix(const at::Tensor& t) {
  const at::Tensor wide = t.detach().to(at::kDouble).contiguous();
  Matrix m;
  for (int64_t i = 0; i < wide.size(0); ++i) {
    const double* row = wide[i].const_data_ptr<double>();
    m.emplace_back(row, row + wide.size(1));
  }
  return m;
}

Row times(const Matrix& m, const Row& x) {
  Row y;
  for (const Row& row : m) y.push_back(std::inner_product(row.begin(), row.end(), x.begin(), 0.0));
  return y;
}

// The definition, token by token, with nothing but loops.
Matrix reference(const Layer& layer, const at::Tensor& x, const Row& bias, bool normalise) {
  const Matrix router = matrix(layer.weight(0));
  Matrix result;
  for (const Row& token : matrix(x)) {
    Row scores = times(router, token);
    const double top = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (double& s : scores) total += s = std::exp(s - top);
    for (double& s : scores) s /= total;
    std::vector<int> order(kExperts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return scores[a] + bias[a] > scores[b] + bias[b]; });
    double gates = 0;
    for (int j = 0; j < kChoices; ++j) gates += scores[order[j]];
    Row y(kDim, 0);
    for (int j = 0; j < kChoices; ++j) {
      const int e = order[j];
      const Row gate = times(matrix(layer.weight(1)[e]), token), up = times(matrix(layer.weight(3)[e]), token);
      Row hidden;
      for (int f = 0; f < kHidden; ++f) hidden.push_back(gate[f] / (1 + std::exp(-gate[f])) * up[f]);
      const Row out = times(matrix(layer.weight(2)[e]), hidden);
      for (int d = 0; d < kDim; ++d) y[d] += scores[e] / (normalise ? gates : 1) * out[d];
    }
    result.push_back(y);
  }
  return result;
}

double largest_difference(const at::Tensor& got, const Matrix& want) {
  double largest = 0;
  const Matrix values = matrix(got);
  for (size_t i = 0; i < want.size(); ++i) {
    for (size_t d = 0; d < want[i].size(); ++d) largest = std::max(largest, std::abs(values[i][d] - want[i][d]));
  }
  return largest;
}

TEST(Moe, IsTheWeightedSumOfTheChosenExpertsOfEachToken) {
  for (const bool normalise : {true, false}) {
    spec::ModelShape shape = tiny();
    shape.norm_topk_prob = normalise;
    Layer layer(at::kDouble, shape);
    const at::Tensor x = tokens(at::kDouble);
    const Row no_bias(kExperts, 0);
    EXPECT_LE(largest_difference(layer.forward(x), reference(layer, x, no_bias, normalise)), 1e-13);
    // With a bias other experts are chosen, but it enters no gate.
    const Row bias = {0.4, -0.3, 0, 0.2, -0.5, 0.1, 0, -0.1};
    layer.bias().copy_(at::tensor(bias, at::kDouble));
    const Matrix want = reference(layer, x, bias, normalise);
    EXPECT_LE(largest_difference(layer.forward(x), want), 1e-13);
    EXPECT_GE(largest_difference(layer.forward(x), reference(layer, x, no_bias, normalise)), 1e-3);
  }
}

TEST(Router, GivesTiesToTheLowerExpert) {
  const at::Tensor preference = at::tensor({1.0, 3.0, 2.0, 3.0, 2.0, 2.0, 3.0, 0.0}, at::kFloat).repeat({3, 16});
  const at::Tensor chosen = largest(preference, 50);  // of 128 numbers, three maxima in every eight
  std::vector<int64_t> want;
  for (int64_t i = 0; i < 128 && want.size() < 48; ++i) {
    if (i % 8 == 1 || i % 8 == 3 || i % 8 == 6) want.push_back(i);
  }
  want.insert(want.end(), {2, 4});
  for (int64_t row = 0; row < 3; ++row) EXPECT_TRUE(at::equal(chosen[row], at::tensor(want, at::kLong))) << chosen[row];
}

TEST(Router, TakesLogitsInFloat32AndInTheActivationDtypeWhereExactlyLikeHuggingFace) {
  const at::Tensor x = tokens(at::kBFloat16);
  const at::Tensor weight = tokens(at::kDouble, kExperts).mul(0.3).to(at::kBFloat16);
  const Routing wide = route(x, weight, {}, {.experts_per_token = kChoices});
  const Routing exact = route(x, weight, {}, {.experts_per_token = kChoices, .mode = spec::MoeSpec::Router::kHfExact});
  const at::Tensor logits = at::mm(x.to(at::kDouble), weight.t().to(at::kDouble));
  // Products of bfloat16 values are exact in float32; 16 of them are added.
  EXPECT_LE((wide.scores - logits.softmax(-1)).abs().max().item<double>(), 1e-6);
  EXPECT_TRUE(at::equal(exact.scores, at::softmax(logits.to(at::kBFloat16), -1, at::kFloat)));
  EXPECT_TRUE(at::equal(exact.gates, exact.gates.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_FALSE(at::equal(wide.gates, wide.gates.to(at::kBFloat16).to(at::kFloat)));
}

TEST(Router, RoundRobinLoadsEveryExpertAlike) {
  const int64_t count = tokens(at::kFloat).size(0);
  const at::Tensor chosen = round_robin(at::arange(count), kChoices, kExperts);
  EXPECT_TRUE(at::equal(expert_counts(chosen, kExperts), at::full({kExperts}, 15, at::kLong)));
  EXPECT_TRUE(at::equal(chosen[1], at::tensor({3, 4, 5}, at::kLong)));
  const Routing routing =
      route(tokens(at::kFloat), tokens(at::kFloat, kExperts), {}, {.experts_per_token = kChoices}, chosen);
  EXPECT_TRUE(at::equal(routing.chosen, chosen));
}

TEST(Balance, LossIsOneWhenEvenAndTheNumberOfExpertsWhenOneTakesAll) {
  const at::Tensor even = at::full({4}, 0.25, at::kDouble);
  EXPECT_DOUBLE_EQ(balance_loss(even, at::tensor({7, 7, 7, 7}, at::kLong)).item<double>(), 1);
  EXPECT_DOUBLE_EQ(balance_loss(even, at::zeros({4}, at::kLong)).item<double>(), 1);  // nothing counted yet: uniform
  const at::Tensor all_on_one = at::tensor({0., 0., 1., 0.}, at::kDouble);
  EXPECT_DOUBLE_EQ(balance_loss(all_on_one, at::tensor({0, 0, 9, 0}, at::kLong)).item<double>(), 4);
  // 4 * (0.5 * 0.1 + 0.25 * 0.2 + 0.25 * 0.3 + 0 * 0.4)
  const at::Tensor mixed = at::tensor({0.1, 0.2, 0.3, 0.4}, at::kDouble);
  EXPECT_DOUBLE_EQ(balance_loss(mixed, at::tensor({2, 1, 1, 0}, at::kLong)).item<double>(), 0.7);
}

TEST(Balance, BiasMovesAgainstTheLoadByOneSizeAndStaysCentred) {
  const at::Tensor bias = at::tensor({0.5, 0., 0., -0.5}, at::kDouble);
  // Mean 4: signs -1, 0, +1, +1, whose mean 1/4 is taken off.
  const at::Tensor moved = balanced_bias(bias, at::tensor({9, 4, 2, 1}, at::kLong), 0.1);
  EXPECT_TRUE(at::allclose(moved, at::tensor({0.5 - 0.125, -0.025, 0.075, -0.5 + 0.075}, at::kDouble), 0, 1e-16));
  EXPECT_EQ(balanced_bias(bias.to(at::kFloat), at::tensor({1, 1, 1, 1}, at::kLong), 0.1).scalar_type(), at::kFloat);
}

// 16 experts that 3 tokens cannot all reach.
TEST(Moe, AnExpertWithoutTokensHasAZeroGradient) {
  spec::ModelShape shape = tiny();
  shape.experts = 16;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    Layer layer(dtype, shape);
    RoutingRecord record{std::vector<RoutingRecord::Layer>(1)};
    layer.forward(tokens(dtype, 3).requires_grad_(), {.record = &record}).sum().backward();
    const at::Tensor idle = record.layers[0].counts.eq(0);
    ASSERT_GE(idle.sum().item<int64_t>(), 7);
    for (const size_t i : {1, 2, 3}) {
      EXPECT_TRUE(layer.weight(i).grad().flatten(1).ne(0).any(1).eq(idle.logical_not()).all().item<bool>()) << i;
    }
  }
}

TEST(Moe, IsBitwiseReproducibleForAGivenNumberOfThreads) {
  for (const int threads : {1, 2}) {
    at::set_num_threads(threads);
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const auto run = [&] {
        Layer layer(dtype);
        const at::Tensor x = tokens(dtype, 600).requires_grad_();
        layer.forward(x).square().sum().backward();
        return std::vector<at::Tensor>{x.grad(), layer.weight(0).grad(), layer.weight(2).grad()};
      };
      const auto first = run(), second = run();
      for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(at::equal(first[i], second[i])) << i;
    }
  }
  at::set_num_threads(1);
}

Microbatch batch() {
  const at::Tensor ids = at::arange(48).mul(37).add(11).remainder(61).view({2, 24});
  at::Tensor labels = ids.roll(-1, 1);
  labels[1].slice(0, 20).fill_(-100);
  return {.ids = ids, .labels = labels, .positions = at::arange(24).repeat({2, 1})};
}

// Central differences in float64 along a random direction of all parameters, as for the dense model; the objective is
// the loss plus the auxiliary losses.
TEST(MoeModel, GradientIsTheSlopeOfTheLossWithItsAuxiliaryLoss) {
  for (const auto scope : {spec::MoeSpec::AuxLossScope::kMicrobatch, spec::MoeSpec::AuxLossScope::kGlobalBatch}) {
    ParameterSet parameters;
    const Qwen3 qwen3(tiny(), parameters, plain_seams(), {.aux_loss_coeff = 0.3, .aux_loss_scope = scope});
    materialise(parameters, /*seed=*/1, at::kDouble);
    for (Buffer& buffer : parameters.buffers()) {
      if (buffer.kind == Buffer::Kind::kCount) buffer.value.copy_(at::arange(kExperts));
    }
    const Microbatch input = batch();
    const double scale = 1.0 / 60;  // 44 valid tokens of the step's 60
    RoutingRecord record;
    qwen3.loss(input, scale, &record).backward();
    auto generator = at::make_generator<at::CPUGeneratorImpl>(5);
    double slope = 0;
    std::vector<std::pair<at::Tensor, at::Tensor>> moves;
    for (auto& unit : parameters.units()) {
      for (Parameter* p : unit.parameters) {
        const at::Tensor direction = at::empty(p->shape, at::kDouble).normal_(0, 1, generator);
        slope += (direction * p->weight.grad()).sum().item<double>();
        moves.emplace_back(p->weight, direction);
      }
    }
    torch::NoGradGuard no_gradients;
    double auxiliary = 0;
    const auto objective_at = [&](double h) {
      for (auto& [weight, direction] : moves) weight.add_(direction, h);
      double objective = qwen3.loss(input, scale, &record).item<double>();
      auxiliary = 0;
      for (const auto& layer : record.layers) auxiliary += layer.auxiliary_loss.item<double>();
      for (auto& [weight, direction] : moves) weight.sub_(direction, h);
      return objective + auxiliary;
    };
    const double h = 1e-7;
    EXPECT_NEAR((objective_at(h) - objective_at(-h)) / (2 * h), slope, 1e-6 * std::abs(slope));
    // Two layers, nearly even at the start: 2 * 0.3 * 44 / 60.
    EXPECT_NEAR(auxiliary, 0.44, 0.02);
    for (const auto& layer : record.layers) EXPECT_EQ(layer.counts.sum().item<int64_t>(), 48 * kChoices);
  }
}

TEST(MoeModel, HasTheNamesAndInitialWeightsThatCheckpointsRelyOn) {
  ParameterSet parameters;
  const Qwen3 qwen3(tiny(), parameters, plain_seams(),
                    {.aux_loss_coeff = 1e-3, .aux_loss_scope = spec::MoeSpec::AuxLossScope::kGlobalBatch});
  materialise(parameters, /*seed=*/1, at::kFloat);
  std::map<std::string, const Parameter*> block;
  for (const Parameter* p : parameters.units()[2].parameters) block[p->name] = p;
  const auto shape = [&](const char* name) { return block.at(name)->shape; };
  EXPECT_THAT(shape("layers.1.moe.router.gate.weight"), ElementsAre(kExperts, kDim));
  EXPECT_THAT(shape("layers.1.moe.experts.w1"), ElementsAre(kExperts, kHidden, kDim));
  EXPECT_THAT(shape("layers.1.moe.experts.w2"), ElementsAre(kExperts, kDim, kHidden));
  EXPECT_THAT(shape("layers.1.moe.experts.w3"), ElementsAre(kExperts, kHidden, kDim));
  EXPECT_EQ(block.count("layers.1.feed_forward.w1.weight"), 0);
  ASSERT_EQ(parameters.buffers().size(), 4);
  EXPECT_EQ(parameters.buffers()[2].name, "layers.1.moe.expert_bias");
  EXPECT_EQ(parameters.buffers()[3].name, "layers.1.moe.expert_counts");
  EXPECT_EQ(parameters.buffers()[3].value.scalar_type(), at::kLong);
  // Two layers: what writes to the residual stream is half as wide.
  const auto std_of = [&](const char* name) { return block.at(name)->weight.std().item<double>(); };
  EXPECT_NEAR(std_of("layers.1.moe.experts.w1"), 0.02, 1e-3);
  EXPECT_NEAR(std_of("layers.1.moe.experts.w2"), 0.01, 5e-4);
  EXPECT_NEAR(std_of("layers.1.attention.wo.weight"), 0.01, 1e-3);
}

TEST(MoeModel, BlockIsTheChainOfItsSegments) {
  ParameterSet parameters;
  const Seams seams = plain_seams();
  const Block block(tiny(), {}, 0, parameters, seams);
  std::vector<std::string> names;
  for (const Segment& segment : block.segments({})) names.emplace_back(segment.name);
  EXPECT_THAT(names, ElementsAre("qkv", "attention", "attention_residual", "router", "dispatch", "expert_gate_up",
                                 "expert_residual"));
}

}  // namespace
}  // namespace qwen3::model
