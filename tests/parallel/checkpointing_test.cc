// Recomputation on one device: gradients bitwise those of keeping everything, choices of experts made once, and as many
// bytes kept as the arithmetic of spec/ says.
#include "parallel/checkpointing/checkpointing.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <map>

#include "kernels/cpu/recycling_allocator.h"
#include "model/block.h"
#include "model/moe.h"
#include "model/qwen3.h"

namespace qwen3::parallel {
namespace {

using spec::KeptResults;

constexpr int64_t kSequences = 2, kLength = 40;

spec::RunSpec dense_run(bool tied) {
  spec::RunSpec run;
  run.model = {.flavor = "tiny",
               .dim = 48,
               .layers = 2,
               .heads = 4,
               .kv_heads = 2,
               .head_dim = 32,
               .ffn_hidden = 80,
               .vocab = 101,
               .max_seq_len = 64,
               .tied = tied};
  run.data.local_batch_size = kSequences;
  run.data.seq_len = kLength;
  return run;
}

spec::RunSpec moe_run(const spec::MoeSpec& moe) {
  spec::RunSpec run = dense_run(/*tied=*/false);
  run.model.ffn_hidden = 0;
  run.model.experts = 6;
  run.model.experts_per_token = 2;
  run.model.expert_hidden = 32;
  run.moe = moe;
  return run;
}

std::vector<KeptResults> subsets_of_results(const spec::ModelShape& shape) {
  std::vector<KeptResults> subsets{{}};
  for (const std::string_view name : spec::block_results(shape)) {
    for (size_t i = 0, count = subsets.size(); i < count; ++i) {
      subsets.push_back(subsets[i]);
      subsets.back().emplace(name);
    }
  }
  return subsets;
}

std::string text(const KeptResults& kept) {
  std::string all = "kept:";
  for (const std::string& name : kept) all += " " + name;
  return all;
}

// Packed documents where `documents`, so that attention takes its mask.
model::Microbatch microbatch(const spec::RunSpec& run, int64_t m, bool documents) {
  const at::Tensor ids = at::arange(kSequences * kLength).mul(7).add(13 * m).remainder(run.model.vocab);
  at::Tensor labels = ids.view({kSequences, kLength}).roll(-1, 1);
  labels[0].slice(0, kLength - 3 - m).fill_(-100);
  at::Tensor positions = at::arange(kLength).repeat({kSequences, 1});
  if (documents) positions[1].slice(0, 15).sub_(15);
  return {ids.view({kSequences, kLength}), labels, positions};
}

// A model whose blocks all keep the same results.
struct Scene {
  Scene(const spec::RunSpec& run, const KeptResults& kept, at::ScalarType dtype = at::kFloat)
      : run(run), model(run.model, parameters, seams_with(kept, run.model.layers), run.moe) {
    materialise(parameters, /*seed=*/3, dtype);
    const torch::NoGradGuard no_gradients;
    for (auto& unit : parameters.units()) {
      for (model::Parameter* p : unit.parameters) {
        if (p->name.find("router") != std::string::npos) p->weight.mul_(20);  // opinions
      }
    }
  }

  static model::Seams seams_with(const KeptResults& kept, int64_t layers) {
    model::Seams seams = model::plain_seams();
    install_checkpointing(seams, std::vector<KeptResults>(static_cast<size_t>(layers), kept));
    return seams;
  }

  // Of two microbatches, accumulated; by use of each weight.
  std::map<std::string, at::Tensor> gradients() {
    records.clear();
    for (int64_t m = 0; m < 2; ++m) {
      model::RoutingRecord record;
      model.loss(microbatch(run, m, /*documents=*/true), 0.01, run.model.experts > 0 ? &record : nullptr).backward();
      records.push_back(std::move(record));
    }
    std::map<std::string, at::Tensor> all;
    for (auto& unit : parameters.units()) {
      for (model::Parameter* p : unit.parameters) {
        all[p->name] = std::exchange(p->weight.mutable_grad(), at::Tensor());
      }
    }
    return all;
  }

  spec::RunSpec run;
  model::ParameterSet parameters;
  model::Qwen3 model;
  std::vector<model::RoutingRecord> records;
};

void expect_bitwise(const std::map<std::string, at::Tensor>& got, const std::map<std::string, at::Tensor>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [name, gradient] : want) EXPECT_TRUE(at::equal(got.at(name), gradient)) << name;
}

struct Case {
  const char* name;
  spec::RunSpec run;
};

void PrintTo(const Case& tested, std::ostream* out) { *out << tested.name; }

class EverySubset : public ::testing::TestWithParam<Case> {};

TEST_P(EverySubset, GivesTheGradientsOfKeepingEverythingToTheBit) {
  const spec::RunSpec& run = GetParam().run;
  const std::vector<KeptResults> subsets = subsets_of_results(run.model);
  Scene all(run, subsets.back());
  const auto want = all.gradients();
  for (const KeptResults& kept : subsets) {
    SCOPED_TRACE(text(kept));
    Scene scene(run, kept);
    expect_bitwise(scene.gradients(), want);
    for (size_t m = 0; m < scene.records.size(); ++m) {
      for (size_t layer = 0; layer < scene.records[m].layers.size(); ++layer) {
        const auto &got = scene.records[m].layers[layer], &once = all.records[m].layers[layer];
        EXPECT_TRUE(at::equal(got.counts, once.counts));
        EXPECT_EQ(got.auxiliary_loss.defined(), once.auxiliary_loss.defined());
        if (once.auxiliary_loss.defined()) {
          EXPECT_TRUE(at::equal(got.auxiliary_loss, once.auxiliary_loss));
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, EverySubset,
    ::testing::Values(
        Case{"dense_tied", dense_run(true)}, Case{"dense_untied", dense_run(false)}, Case{"moe_bias", moe_run({})},
        Case{"moe_auxiliary", moe_run({.router = spec::MoeSpec::Router::kHfExact, .aux_loss_coeff = 0.1})},
        Case{"moe_auxiliary_global",
             moe_run({.aux_loss_coeff = 0.1, .aux_loss_scope = spec::MoeSpec::AuxLossScope::kGlobalBatch})}),
    [](const auto& info) { return std::string(info.param.name); });

class BytesOfEverySubset : public ::testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() { kernels::install_recycling_allocator(); }
};

// Bytes that live from forward to backward for one block more, in float32 and bfloat16.
TEST_P(BytesOfEverySubset, AreThoseThatTheArithmeticSays) {
  for (const auto& [precision, dtype] :
       {std::pair{spec::Precision::kFloat32, at::kFloat}, {spec::Precision::kBfloat16, at::kBFloat16}}) {
    spec::RunSpec run = GetParam().run;
    run.precision = precision;
    const spec::BlockCost cost(run);
    for (const KeptResults& kept : subsets_of_results(run.model)) {
      const auto bytes_of_forward = [&](int64_t layers, bool documents) {
        run.model.layers = layers;
        Scene scene(run, kept, dtype);
        const model::Microbatch batch = microbatch(run, 0, documents);
        const int64_t before = kernels::live_bytes();
        const at::Tensor loss = scene.model.loss(batch, 0.01);
        return kernels::live_bytes() - before;
      };
      for (const bool documents : {false, true}) {
        const int64_t bytes = bytes_of_forward(2, documents) - bytes_of_forward(1, documents);
        EXPECT_EQ(bytes, cost.kept_bytes(kept)) << text(kept) << ", " << dtype << (documents ? ", packed" : "");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, BytesOfEverySubset,
                         ::testing::Values(Case{"dense", dense_run(true)}, Case{"moe", moe_run({})},
                                           Case{"moe_exact", moe_run({.router = spec::MoeSpec::Router::kHfExact})}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Checkpointing, NamesAreThoseOfTheBlocksSegments) {
  for (const spec::RunSpec& run : {dense_run(true), moe_run({})}) {
    std::vector<std::string> names;
    model::Seams seams = model::plain_seams();
    seams.chain = [&, plain = seams.chain](size_t unit, const at::Tensor& x, std::vector<model::Segment> segments) {
      if (unit == 1) {
        for (const model::Segment& segment : segments) names.emplace_back(segment.name);
      }
      return plain(unit, x, std::move(segments));
    };
    model::ParameterSet parameters;
    const model::Qwen3 qwen3(run.model, parameters, seams, run.moe);
    materialise(parameters, /*seed=*/3, at::kFloat);
    qwen3.loss(microbatch(run, 0, false), 1);
    const auto want = spec::block_results(run.model);
    EXPECT_EQ(names, std::vector<std::string>(want.begin(), want.end()));
  }
}

// A bias that moved between forward and backward would send tokens to other experts.
TEST(Checkpointing, TheRoutersChoiceIsReplayed) {
  const spec::RunSpec run = moe_run({.aux_loss_coeff = 0.1});
  const auto gradients_with = [&](const KeptResults& kept, double moved, bool recorded) {
    Scene scene(run, kept);
    model::RoutingRecord record;
    const at::Tensor loss = scene.model.loss(microbatch(run, 0, true), 0.01, recorded ? &record : nullptr);
    const std::vector<model::RoutingRecord::Layer> before = record.layers;
    for (model::Buffer& buffer : scene.parameters.buffers()) {
      buffer.value.copy_(at::arange(buffer.value.numel()).mul(moved));
    }
    loss.backward();
    for (size_t layer = 0; layer < before.size(); ++layer) {
      EXPECT_TRUE(record.layers[layer].counts.is_same(before[layer].counts)) << "recorded again";
    }
    std::map<std::string, at::Tensor> all;
    for (auto& unit : scene.parameters.units()) {
      for (model::Parameter* p : unit.parameters) all[p->name] = p->weight.grad();
    }
    return all;
  };
  const auto names = spec::block_results(run.model);
  for (const bool recorded : {true, false}) {
    SCOPED_TRACE(recorded ? "recorded" : "not recorded");
    const auto want = gradients_with({names.begin(), names.end()}, 0, recorded);
    expect_bitwise(gradients_with({}, 100, recorded), want);
    expect_bitwise(gradients_with({"dispatch", "expert_gate_up"}, 100, recorded), want);
  }
}

TEST(Checkpointing, ARunWithoutGradientsKeepsAndComputesTheSame) {
  const spec::RunSpec run = dense_run(false);
  const auto names = spec::block_results(run.model);
  Scene none(run, {names.begin(), names.end()}), full(run, {});
  const torch::NoGradGuard no_gradients;
  const model::Microbatch batch = microbatch(run, 0, true);
  EXPECT_TRUE(at::equal(none.model.logits(batch), full.model.logits(batch)));
}

// Each group's backward returns before the next begins, so depth does not matter.
TEST(Checkpointing, TwoHundredBlocksDeep) {
  spec::RunSpec run = dense_run(true);
  run.model.layers = 200;
  const auto names = spec::block_results(run.model);
  expect_bitwise(Scene(run, {}).gradients(), Scene(run, {names.begin(), names.end()}).gradients());
}

TEST(Checkpointing, BackwardTwiceIsRefused) {
  Scene scene(dense_run(false), {});
  const at::Tensor x = scene.model.logits(microbatch(scene.run, 0, true)).sum();
  x.backward({}, /*retain_graph=*/true);
  EXPECT_THROW(x.backward(), c10::Error);
}

}  // namespace
}  // namespace qwen3::parallel
