// The model as a whole: units, names, seams, documents, determinism.
#include "model/qwen3.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <map>
#include <string>

namespace qwen3::model {
namespace {

using ::testing::ElementsAre;

spec::ModelShape tiny(bool tied) {
  return {.flavor = "tiny",
          .dim = 24,
          .layers = 2,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 16,
          .ffn_hidden = 40,
          .vocab = 61,
          .max_seq_len = 64,
          .tied = tied};
}

// Deterministic ids; documents begin at 0 and at the given places of each sequence.
Microbatch batch(const std::vector<int64_t>& starts = {}, int64_t sequences = 2, int64_t length = 24) {
  const at::Tensor ids = at::arange(sequences * length).mul(37).add(11).remainder(61).view({sequences, length});
  at::Tensor positions = at::arange(length).repeat({sequences, 1});
  for (const int64_t start : starts) positions.slice(1, start).copy_(at::arange(length - start));
  return {.ids = ids, .labels = ids.roll(-1, 1), .positions = positions};
}

struct Model {
  explicit Model(bool tied, at::ScalarType dtype = at::kFloat, Seams seams = plain_seams())
      : qwen3(tiny(tied), parameters, std::move(seams)) {
    materialise(parameters, /*seed=*/1, dtype);
  }
  std::map<std::string, at::Tensor> gradients(const Microbatch& input) {
    qwen3.loss(input, 1).backward();
    std::map<std::string, at::Tensor> result;
    for (auto& unit : parameters.units()) {
      for (Parameter* p : unit.parameters) {
        result[p->name] = p->weight.grad();
        p->weight.mutable_grad().reset();
      }
    }
    return result;
  }
  ParameterSet parameters;
  Qwen3 qwen3;
};

std::vector<std::string> names(const ParameterSet::Unit& unit) {
  std::vector<std::string> result;
  for (const Parameter* p : unit.parameters) result.push_back(p->name);
  return result;
}

TEST(Qwen3, HasTheUnitsAndNamesThatCheckpointsRelyOn) {
  Model model(/*tied=*/true);
  const auto& units = model.parameters.units();
  ASSERT_EQ(units.size(), 4);
  EXPECT_EQ(units[0].name, "tok_embeddings");
  EXPECT_EQ(units[2].name, "layers.1");
  EXPECT_EQ(units[3].name, "head");
  EXPECT_THAT(names(units[0]), ElementsAre("tok_embeddings.weight"));
  EXPECT_THAT(
      names(units[2]),
      ElementsAre("layers.1.attention_norm.weight", "layers.1.attention.wq.weight", "layers.1.attention.wk.weight",
                  "layers.1.attention.wv.weight", "layers.1.attention.wo.weight", "layers.1.attention.q_norm.weight",
                  "layers.1.attention.k_norm.weight", "layers.1.ffn_norm.weight", "layers.1.feed_forward.w1.weight",
                  "layers.1.feed_forward.w2.weight", "layers.1.feed_forward.w3.weight"));
  EXPECT_THAT(names(units[3]), ElementsAre("norm.weight", "lm_head.weight"));
  EXPECT_EQ(units[3].parameters[1]->tensor, "tok_embeddings.weight");
  EXPECT_EQ(Model(/*tied=*/false).parameters.units()[3].parameters[1]->tensor, "lm_head.weight");
}

TEST(Qwen3, ATiedWeightSharesStorageAndHasOneGradientPerUse) {
  Model model(/*tied=*/true);
  const auto gradients = model.gradients(batch());
  const Parameter &embedding = *model.parameters.units()[0].parameters[0],
                  &head = *model.parameters.units()[3].parameters[1];
  EXPECT_EQ(embedding.weight.const_data_ptr(), head.weight.const_data_ptr());
  EXPECT_TRUE(gradients.at("tok_embeddings.weight").defined());
  EXPECT_FALSE(at::equal(gradients.at("tok_embeddings.weight"), gradients.at("lm_head.weight")));
}

TEST(Qwen3, LossIsTheCrossEntropyOfItsLogits) {
  Model model(/*tied=*/false, at::kDouble);
  const Microbatch input = batch({5});
  input.labels[0].slice(0, 3, 9).fill_(-100);
  const at::Tensor logits = model.qwen3.logits(input).flatten(0, 1);
  const double want =
      at::nll_loss(at::log_softmax(logits, -1), input.labels.flatten(), {}, at::Reduction::Sum, -100).item<double>();
  EXPECT_NEAR(model.qwen3.loss(input, 0.5).item<double>(), 0.5 * want, 1e-12 * want);
}

// Central differences in float64 along a random direction of all parameters: error O(h^2) + rounding / h.
TEST(Qwen3, GradientIsTheSlopeOfTheLoss) {
  Model model(/*tied=*/true, at::kDouble);
  const Microbatch input = batch({7, 13});
  const auto gradients = model.gradients(input);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(5);
  double slope = 0;
  std::vector<std::pair<at::Tensor, at::Tensor>> moves;  // storage shared by the two uses moves twice, as it should
  for (auto& unit : model.parameters.units()) {
    for (Parameter* p : unit.parameters) {
      const at::Tensor direction = at::empty(p->shape, at::kDouble).normal_(0, 1, generator);
      slope += (direction * gradients.at(p->name)).sum().item<double>();
      // A step along the direction of one use of the tied weight moves the other use as well.
      if (p->tensor != p->name) slope += (direction * gradients.at(p->tensor)).sum().item<double>();
      if (p->name == "tok_embeddings.weight")
        slope += (direction * gradients.at("lm_head.weight")).sum().item<double>();
      moves.emplace_back(p->weight, direction);
    }
  }
  torch::NoGradGuard no_gradients;
  const auto loss_at = [&](double h) {
    for (auto& [weight, direction] : moves) weight.add_(direction, h);
    const double loss = model.qwen3.loss(input, 1).item<double>();
    for (auto& [weight, direction] : moves) weight.sub_(direction, h);
    return loss;
  };
  const double h = 1e-7;  // the direction's norm is about 100
  EXPECT_NEAR((loss_at(h) - loss_at(-h)) / (2 * h), slope, 1e-6 * std::abs(slope));
}

class Documents : public ::testing::TestWithParam<at::ScalarType> {};

TEST_P(Documents, PerturbingOneLeavesTheOthersBitIdentical) {
  Model model(/*tied=*/false, GetParam());
  const Microbatch input = batch({7, 13});  // documents [0, 7), [7, 13), [13, 24)
  torch::NoGradGuard no_gradients;
  const at::Tensor before = model.qwen3.logits(input);
  input.ids.select(0, 0).slice(0, 7, 13).add_(17).remainder_(61);
  const at::Tensor after = model.qwen3.logits(input);
  EXPECT_TRUE(at::equal(before[0].slice(0, 0, 7), after[0].slice(0, 0, 7)));
  EXPECT_TRUE(at::equal(before[0].slice(0, 13), after[0].slice(0, 13)));
  EXPECT_TRUE(at::equal(before[1], after[1]));
  EXPECT_FALSE(at::equal(before[0].slice(0, 7, 13), after[0].slice(0, 7, 13)));
}

TEST_P(Documents, PackedOnesComputeWhatEachComputesAlone) {
  Model model(/*tied=*/false, GetParam());
  torch::NoGradGuard no_gradients;
  const Microbatch packed = batch({7, 13}, /*sequences=*/1);
  const at::Tensor together = model.qwen3.logits(packed)[0].to(at::kDouble);
  for (const auto& [begin, end] : {std::pair{0, 7}, {7, 13}, {13, 24}}) {
    const at::Tensor alone = model.qwen3.logits({.ids = packed.ids.slice(1, begin, end),
                                                 .labels = packed.labels.slice(1, begin, end),
                                                 .positions = packed.positions.slice(1, begin, end)})[0];
    const double error = (together.slice(0, begin, end) - alone.to(at::kDouble)).abs().max().item<double>();
    // Logits are about 0.05: rounding of the dtype through two layers (blocks of other sizes add in another order).
    EXPECT_LE(error, GetParam() == at::kDouble ? 1e-15 : GetParam() == at::kFloat ? 1e-6 : 5e-3);
  }
}
INSTANTIATE_TEST_SUITE_P(Dtypes, Documents, ::testing::Values(at::kDouble, at::kFloat, at::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

TEST(Qwen3, IsBitwiseReproducibleForAGivenNumberOfThreads) {
  for (const int threads : {1, 2}) {
    at::set_num_threads(threads);
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      Model model(/*tied=*/true, dtype);
      const auto first = model.gradients(batch({7})), second = model.gradients(batch({7}));
      for (const auto& [name, gradient] : first) EXPECT_TRUE(at::equal(gradient, second.at(name))) << name;
    }
  }
  at::set_num_threads(1);
}

TEST(Qwen3, CallsTheSeamsForEveryUnitAndEveryLinear) {
  std::vector<size_t> units;
  std::vector<std::string> linears;
  Seams seams = plain_seams();
  seams.around = [&](size_t unit, const at::Tensor& x, const Layer& body) {
    units.push_back(unit);
    return body(x);
  };
  seams.linears = [&, plain = seams.linears](const at::Tensor& x, std::initializer_list<const Parameter*> weights) {
    for (const Parameter* weight : weights) linears.push_back(weight->name);
    return plain(x, weights);
  };
  Model model(/*tied=*/false, at::kFloat, seams);
  model.qwen3.loss(batch(), 1);
  EXPECT_THAT(units, ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(linears.size(), 14);
  EXPECT_EQ(linears[0], "layers.0.attention.wq.weight");
}

}  // namespace
}  // namespace qwen3::model
