// The model against two others that read the same Hugging Face folder: transformers in float32 (logits, loss, every
// gradient) and a numpy program in float64 (logits, loss, and by complex step the slope along every parameter). The
// cases of tests/golden/hf: tied and untied, several files, head_dim that is not dim / heads, odd vocabularies, packed
// documents, ignored labels, YaRN, experts with and without renormalised gates, both layouts of experts.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <utility>

#include "model/qwen3.h"
#include "model/router.h"
#include "tests/golden/hf_case.h"

namespace qwen3::model {
namespace {

using golden::HfCase;

// In nats, mean over the positions of KL(theirs || ours), in float64.
double mean_kl(const at::Tensor& their_logits, const at::Tensor& our_logits) {
  const at::Tensor theirs = at::log_softmax(their_logits.to(at::kDouble), -1);
  const at::Tensor ours = at::log_softmax(our_logits.to(at::kDouble), -1);
  return (theirs.exp() * (theirs - ours)).sum(-1).mean().item<double>();
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

struct Result {
  at::Tensor logits;
  double loss = 0;                              // summed over the valid tokens
  std::map<std::string, at::Tensor> gradients;  // of the loss, by tensor; the two uses of a tied one added
};

Result compute(const HfCase& scene, const spec::ModelShape& shape, at::ScalarType dtype) {
  ParameterSet parameters;
  const Qwen3 model(shape, parameters);
  golden::load_weights(*scene.source, parameters, dtype);
  Result result{.logits = model.logits(scene.batch).detach()};
  const at::Tensor loss = model.loss(scene.batch, /*scale=*/1);
  result.loss = loss.item<double>();
  loss.backward();
  for (const auto& unit : parameters.units()) {
    for (const Parameter* p : unit.parameters) {
      at::Tensor& sum = result.gradients[p->tensor];
      sum = sum.defined() ? sum + p->weight.grad() : p->weight.grad();
    }
  }
  return result;
}

// What was measured goes into the report too (--gtest_output=xml): docs/parity.md has it.
void expect_at_most(double value, double bound, const char* what, const std::string& where = "") {
  EXPECT_LE(value, bound) << what << (where.empty() ? "" : " of ") << where;
  char text[32];
  std::snprintf(text, sizeof(text), "%.1e", value);
  ::testing::Test::RecordProperty(what, text);
}

class Parity : public ::testing::TestWithParam<std::pair<const char*, const char*>> {
 protected:
  const HfCase scene_{GetParam().first, GetParam().second};
  Result compute(at::ScalarType dtype) const { return model::compute(scene_, scene_.source->model(), dtype); }
};

// Two float32 programs add in other orders, a few of 6e-8 per operation; logits are about 10, and a KL is the square of
// such a difference.
TEST_P(Parity, InFloat32ItIsTransformers) {
  const Result ours = compute(at::kFloat);
  const at::Tensor their_logits = scene_.transformers.tensor("logits");
  expect_at_most(mean_kl(their_logits, ours.logits), 1e-10, "kl");
  expect_at_most(largest_difference(their_logits, ours.logits), 1e-4, "logits");
  const double their_loss = scene_.transformers.tensor("loss").item<double>();
  expect_at_most(std::abs(ours.loss / their_loss - 1), 1e-6, "loss");
  double worst = 0;  // relative L2 error of a gradient
  std::string worst_name;
  for (const auto& [name, gradient] : ours.gradients) {
    const at::Tensor theirs = scene_.transformers.tensor("gradient." + name);
    ASSERT_EQ(gradient.sizes(), theirs.sizes()) << name;
    const double error = ((gradient - theirs).norm() / theirs.norm()).item<double>();
    if (!(error <= worst)) worst = error, worst_name = name;
  }
  expect_at_most(worst, 1e-5, "gradients", worst_name);
}

// Only the rounding of float64 is left: 1e-16 per operation, a few thousand operations.
TEST_P(Parity, InFloat64ItIsTheIndependentReference) {
  const Result ours = compute(at::kDouble);
  const at::Tensor their_logits = scene_.float64.tensor("logits");
  expect_at_most(std::abs(mean_kl(their_logits, ours.logits)), 1e-13, "kl");
  expect_at_most(largest_difference(their_logits, ours.logits), 1e-11, "logits");
  const double their_loss = scene_.float64.tensor("loss").item<double>();
  expect_at_most(std::abs(ours.loss / their_loss - 1), 1e-13, "loss");
  double worst = 0;  // difference of the slopes along a direction, relative to the gradient's size along it
  std::string worst_name;
  for (const auto& [name, gradient] : ours.gradients) {
    const at::Tensor direction = at::arange(gradient.numel(), at::kDouble).cos();
    const double slope = gradient.flatten().dot(direction).item<double>();
    const double theirs = scene_.float64.tensor("slope." + name).item<double>();
    const double error = std::abs(slope - theirs) / (gradient.norm() * direction.norm()).item<double>();
    if (!(error <= worst)) worst = error, worst_name = name;
  }
  expect_at_most(worst, 1e-12, "gradients", worst_name);
}

INSTANTIATE_TEST_SUITE_P(Cases, Parity,
                         ::testing::Values(std::pair{"dense_tied", ""}, std::pair{"dense_untied_sharded", ""},
                                           std::pair{"dense_yarn", ""}, std::pair{"moe_renormalised", ""},
                                           std::pair{"moe_raw", ""}, std::pair{"moe_fused", "moe_renormalised"}),
                         [](const auto& info) { return std::string(info.param.first); });

// That these bounds can fail: 1e-5 where the models have 1e-6, which many a config of another family has.
TEST(ParityBounds, AnotherEpsilonOfTheNormsShows) {
  const HfCase scene("dense_tied");
  spec::ModelShape wrong = scene.source->model();
  ASSERT_EQ(wrong.norm_eps, 1e-6);
  wrong.norm_eps = 1e-5;
  const at::Tensor their_logits = scene.transformers.tensor("logits");
  EXPECT_GT(mean_kl(their_logits, compute(scene, wrong, at::kFloat).logits), 1e-9);
}

// What transformers' MoE layer routes in bfloat16: it rounds the router's logits, so experts weigh otherwise than with
// the float32 logits of our default. `weights` [T, E]; 0: not chosen.
TEST(ParityRouter, HfExactRoutesAsTransformersDoesInBfloat16) {
  const golden::Golden file("hf/router_bf16.safetensors");
  const at::Tensor x = file.tensor("x").to(at::kBFloat16), gate = file.tensor("gate").to(at::kBFloat16);
  const at::Tensor theirs = file.tensor("weights");
  const auto route_as = [&](spec::MoeSpec::Router mode) {
    const Routing routing = route(x, gate, /*bias=*/{}, {.experts_per_token = 4, .normalise = true, .mode = mode});
    return at::zeros_like(theirs).scatter_(1, routing.chosen, routing.gates.to(at::kFloat));
  };
  const auto farthest = [&](const at::Tensor& ours) {  // relative
    return ((ours - theirs) / theirs).masked_select(theirs.gt(0)).abs().max().item<double>();
  };
  const at::Tensor exact = route_as(spec::MoeSpec::Router::kHfExact);
  EXPECT_TRUE(exact.gt(0).equal(theirs.gt(0)));
  EXPECT_LE(farthest(exact), 1.0 / 128);  // the softmax's last bit may round the other way: one unit of bfloat16
  EXPECT_GT(farthest(route_as(spec::MoeSpec::Router::kFloat32)), 2.0 / 128);
}

}  // namespace
}  // namespace qwen3::model
