// The model against Hugging Face transformers' Qwen3ForCausalLM: same weights, same batch (ignored labels, packed
// documents), logits, loss and every gradient. How the values were made: tests/golden/make_model_goldens.py.
#include "tests/golden/golden.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <string>

#include "model/qwen3.h"

namespace qwen3::model {
namespace {

struct Tolerance {
  at::ScalarType dtype;
  std::string prefix;
  double logit;     // largest |difference|; logits are about 10
  double kl;        // mean over positions of KL(theirs || ours), nats
  double gradient;  // relative L2 of each parameter's
};
// float32: two programs add in other orders, a few of 6e-8 per operation. A KL is the square of such a difference.
// float64: the same with 1e-16; the KL is then the rounding of the sum that computes it.
const Tolerance kFloat32{at::kFloat, "float32.", 1e-4, 1e-10, 1e-5};
const Tolerance kFloat64{at::kDouble, "float64.", 1e-12, 1e-13, 1e-13};

class ModelGolden : public ::testing::TestWithParam<std::tuple<std::string, Tolerance>> {};

TEST_P(ModelGolden, AgreesWithTransformers) {
  const auto& [name, tolerance] = GetParam();
  const golden::Golden file("model_" + name + ".safetensors");
  const auto size = [&](const char* key) { return static_cast<int64_t>(file.number(key)); };
  const spec::ModelShape shape{.flavor = name,
                               .dim = size("hidden_size"),
                               .layers = size("num_hidden_layers"),
                               .heads = size("num_attention_heads"),
                               .kv_heads = size("num_key_value_heads"),
                               .head_dim = size("head_dim"),
                               .ffn_hidden = size("intermediate_size"),
                               .vocab = size("vocab_size"),
                               .rope_theta = file.number("rope_theta"),
                               .max_seq_len = 64,
                               .tied = file.text("tie_word_embeddings") == "True"};
  ParameterSet parameters;
  const Qwen3 model(shape, parameters);
  for (const auto& unit : parameters.units()) {
    for (Parameter* p : unit.parameters) {
      p->weight = file.tensor("weight." + p->tensor).to(tolerance.dtype).requires_grad_();
      ASSERT_EQ(p->weight.sizes(), at::IntArrayRef(p->shape)) << p->name;
    }
  }
  const Microbatch batch{file.tensor("ids"), file.tensor("labels"), file.tensor("positions")};
  const auto wanted = [&](const std::string& what) { return file.tensor(tolerance.prefix + what); };

  const at::Tensor logits = model.logits(batch).detach(), their_logits = wanted("logits");
  EXPECT_LE((logits - their_logits).abs().max().item<double>(), tolerance.logit);
  const at::Tensor ours = at::log_softmax(logits, -1, at::kDouble),
                   theirs = at::log_softmax(their_logits, -1, at::kDouble);
  EXPECT_LE((theirs.exp() * (theirs - ours)).sum(-1).mean().item<double>(), tolerance.kl);

  const at::Tensor loss = model.loss(batch, /*scale=*/1);
  const double their_loss = wanted("loss").item<double>();
  EXPECT_NEAR(loss.item<double>(), their_loss, their_loss * tolerance.gradient);
  loss.backward();
  for (const auto& unit : parameters.units()) {
    for (const Parameter* p : unit.parameters) {
      if (p->tensor != p->name) continue;  // a tied head: added to the embedding's below
      at::Tensor gradient = p->weight.grad();
      if (shape.tied && p->name == "tok_embeddings.weight") {
        gradient = gradient + parameters.units().back().parameters.back()->weight.grad();
      }
      const at::Tensor their_gradient = wanted("gradient." + p->name);
      EXPECT_LE(((gradient - their_gradient).norm() / their_gradient.norm()).item<double>(), tolerance.gradient)
          << p->name;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Cases, ModelGolden,
                         ::testing::Combine(::testing::Values("tied", "untied_packed"),
                                            ::testing::Values(kFloat32, kFloat64)),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + c10::toString(std::get<1>(info.param).dtype);
                         });

}  // namespace
}  // namespace qwen3::model
