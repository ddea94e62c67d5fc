// What keeps the experts balanced, over 20 steps, against a reference written by hand in float64.
#include "worker/rank/expert_balance.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/qwen3.h"

namespace qwen3::testing {
namespace {

constexpr int64_t kLayers = 2, kExperts = 6, kChoices = 2, kDim = 16, kSequences = 2, kLength = 20, kMicrobatches = 3;
constexpr double kBiasStep = 0.03, kAuxiliary = 0.1;
using Row = std::vector<double>;

spec::RunSpec run_with(spec::MoeSpec::AuxLossScope scope) {
  spec::RunSpec run;
  run.model = {.flavor = "tiny_moe",
               .dim = kDim,
               .layers = kLayers,
               .heads = 2,
               .kv_heads = 1,
               .head_dim = 8,
               .vocab = 41,
               .max_seq_len = 64,
               .experts = kExperts,
               .experts_per_token = kChoices,
               .expert_hidden = 24};
  run.moe = {.load_balance_coeff = kBiasStep, .aux_loss_coeff = kAuxiliary, .aux_loss_scope = scope};
  return run;
}

// Microbatch m of a step: one with ignored labels, so that their valid tokens differ.
model::Microbatch microbatch(int64_t step, int64_t m) {
  const int64_t numel = kSequences * kLength;
  const at::Tensor ids = at::arange(numel).mul(7 + step).add(13 * m).remainder(41).view({kSequences, kLength});
  at::Tensor labels = ids.roll(-1, 1);
  labels[0].slice(0, kLength - 4 * m).fill_(-100);
  return {ids, labels, at::arange(kLength).repeat({kSequences, 1})};
}

// What the routers of one layer saw and chose, as the dispatcher is told.
struct Seen {
  at::Tensor x, chosen;
};

// One layer's balance as the paper and torchtitan describe it, with loops.
struct Reference {
  Row bias = Row(kExperts, 0);
  std::vector<int64_t> counts = std::vector<int64_t>(kExperts, 0), previous = counts;
  double auxiliary = 0;
  bool bias_mattered = false;  // some token went to other experts because of it

  static Row scores(const at::Tensor& x, const at::Tensor& router) {
    Row s(kExperts);
    const double* token = x.const_data_ptr<double>();
    for (int64_t e = 0; e < kExperts; ++e) {
      s[e] = std::exp(std::inner_product(token, token + kDim, router[e].const_data_ptr<double>(), 0.0));
    }
    const double total = std::accumulate(s.begin(), s.end(), 0.0);
    for (double& value : s) value /= total;
    return s;
  }

  // Checks the choices, counts them, and adds the auxiliary loss of a microbatch that has `share` of the valid tokens.
  void microbatch(const Seen& seen, const at::Tensor& router, double share, bool global_batch) {
    std::vector<int64_t> own(kExperts, 0);
    Row mean(kExperts, 0);
    const int64_t tokens = seen.x.size(0);
    for (int64_t t = 0; t < tokens; ++t) {
      const Row s = scores(seen.x[t], router);
      std::vector<int64_t> order(kExperts);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](int64_t a, int64_t b) { return s[a] + bias[a] > s[b] + bias[b]; });
      const double last = s[order[kChoices - 1]];
      bias_mattered |= std::count_if(s.begin(), s.end(), [&](double score) { return score > last; }) >= kChoices;
      for (int64_t j = 0; j < kChoices; ++j) {
        EXPECT_EQ(seen.chosen[t][j].item<int64_t>(), order[j]) << "token " << t;
        ++own[order[j]];
      }
      for (int64_t e = 0; e < kExperts; ++e) mean[e] += s[e] / static_cast<double>(tokens);
    }
    const std::vector<int64_t>& of = global_batch ? previous : own;
    const auto total = static_cast<double>(std::accumulate(of.begin(), of.end(), int64_t{0}));
    for (int64_t e = 0; e < kExperts; ++e) {
      const double frequency = total > 0 ? static_cast<double>(of[e]) / total : 1.0 / kExperts;
      auxiliary += kAuxiliary * share * kExperts * frequency * mean[e];
      counts[e] += own[e];
    }
  }

  void end_step() {
    const double mean = std::accumulate(counts.begin(), counts.end(), 0.0) / kExperts;
    Row delta;
    for (const int64_t count : counts) {
      const auto n = static_cast<double>(count);
      delta.push_back(kBiasStep * (mean > n ? 1 : mean < n ? -1 : 0));
    }
    const double centre = std::accumulate(delta.begin(), delta.end(), 0.0) / kExperts;
    for (int64_t e = 0; e < kExperts; ++e) bias[e] += delta[e] - centre;
    previous = std::exchange(counts, std::vector<int64_t>(kExperts, 0));
    auxiliary = 0;
  }
};

class TwentySteps : public ::testing::TestWithParam<spec::MoeSpec::AuxLossScope> {};

TEST_P(TwentySteps, BiasCountsAndAuxiliaryLossAreTheReferences) {
  const bool global_batch = GetParam() == spec::MoeSpec::AuxLossScope::kGlobalBatch;
  const spec::RunSpec run = run_with(GetParam());
  std::vector<Seen> seen;  // by layer, of the forward under way
  model::Seams seams = model::plain_seams();
  seams.dispatch = [&, plain = seams.dispatch](const at::Tensor& x, const at::Tensor& chosen, int64_t experts) {
    seen.push_back({x.detach(), chosen});
    return plain(x, chosen, experts);
  };
  model::ParameterSet parameters;
  const model::Qwen3 qwen3(run.model, parameters, seams, run.moe);
  model::materialise(parameters, /*seed=*/5, at::kDouble);
  std::vector<model::Parameter*> weights;
  std::vector<at::Tensor> routers;
  for (auto& unit : parameters.units()) {
    for (model::Parameter* p : unit.parameters) {
      weights.push_back(p);
      if (p->name.find("router") == std::string::npos) continue;
      torch::NoGradGuard no_gradients;
      p->weight.mul_(20);  // opinions, hence an uneven load
      routers.push_back(p->weight.detach());
    }
  }
  rank::ExpertBalance balance(run, parameters.buffers());
  std::vector<Reference> reference(kLayers);
  bool uneven = false;

  for (int64_t step = 1; step <= 20; ++step) {
    double valid = 0, auxiliary = 0;
    for (int64_t m = 0; m < kMicrobatches; ++m) valid += microbatch(step, m).labels.ne(-100).sum().item<double>();
    balance.begin_step();
    for (int64_t m = 0; m < kMicrobatches; ++m) {
      const model::Microbatch batch = microbatch(step, m);
      seen.clear();
      qwen3.loss(batch, 1 / valid, balance.record()).backward();
      auxiliary += balance.end_microbatch();
      const double share = batch.labels.ne(-100).sum().item<double>() / valid;
      for (int64_t l = 0; l < kLayers; ++l) reference[l].microbatch(seen[l], routers[l], share, global_batch);
    }
    const at::Tensor counts = balance.counts().clone();
    const auto metrics = balance.metrics(counts, auxiliary);
    balance.update(counts);

    double want_auxiliary = 0;
    for (int64_t l = 0; l < kLayers; ++l) {
      want_auxiliary += reference[l].auxiliary;
      const std::vector<int64_t> want_counts = reference[l].counts;
      EXPECT_TRUE(at::equal(counts.narrow(0, l * kExperts, kExperts), at::tensor(want_counts, at::kLong))) << step;
      const auto busiest = static_cast<double>(*std::max_element(want_counts.begin(), want_counts.end()));
      EXPECT_DOUBLE_EQ(metrics->max_over_mean[l],
                       busiest / (kMicrobatches * kSequences * kLength * kChoices / kExperts));
      uneven |= metrics->max_over_mean[l] > 1.5;
      reference[l].end_step();
      for (const model::Buffer& buffer : parameters.buffers()) {
        if (buffer.name == model::expert_counts_name(l)) {
          EXPECT_TRUE(at::equal(buffer.value, at::tensor(want_counts, at::kLong)));
        }
        if (buffer.name != model::expert_bias_name(l)) continue;
        const at::Tensor want = at::tensor(reference[l].bias, at::kDouble);
        EXPECT_TRUE(at::allclose(buffer.value, want, 0, 1e-14)) << step << buffer.value << want;
      }
    }
    EXPECT_NEAR(auxiliary, want_auxiliary, 1e-14) << step;  // rounding of a few hundred float64 additions of 1e-3
    torch::NoGradGuard no_gradients;
    for (model::Parameter* p : weights) {  // the model moves, so no two steps route alike
      p->weight.sub_(p->weight.grad(), 0.3);
      p->weight.mutable_grad().reset();
    }
  }
  for (const Reference& layer : reference) EXPECT_TRUE(layer.bias_mattered);
  EXPECT_TRUE(uneven);
}
INSTANTIATE_TEST_SUITE_P(Scopes, TwentySteps,
                         ::testing::Values(spec::MoeSpec::AuxLossScope::kMicrobatch,
                                           spec::MoeSpec::AuxLossScope::kGlobalBatch),
                         [](const auto& info) {
                           return info.param == spec::MoeSpec::AuxLossScope::kMicrobatch ? "microbatch"
                                                                                         : "global_batch";
                         });

TEST(ExpertMetrics, TellHowUnevenTheLoadOfEachLayerIs) {
  const spec::RunSpec run = run_with(spec::MoeSpec::AuxLossScope::kMicrobatch);
  std::deque<model::Buffer> none;
  const rank::ExpertBalance balance(run, none);
  // An even layer, and one where two of six experts share everything.
  const auto metrics = balance.metrics(at::tensor({4, 4, 4, 4, 4, 4, 0, 12, 0, 0, 12, 0}, at::kLong), 0.5);
  EXPECT_EQ(metrics->auxiliary_loss, 0.5);
  EXPECT_EQ(metrics->max_over_mean, (Row{1, 3}));
  EXPECT_EQ(metrics->dead_experts, (std::vector<int64_t>{0, 4}));
  EXPECT_NEAR(metrics->entropy[0], 1, 1e-15);
  EXPECT_NEAR(metrics->entropy[1], std::log(2) / std::log(6), 1e-15);
}

}  // namespace
}  // namespace qwen3::testing
