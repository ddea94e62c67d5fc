// A model cut over tp ranks gives the loss and every gradient of the model on one device.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "model/loss.h"
#include "model/moe.h"
#include "model/qwen3.h"
#include "parallel/tensor/tensor_parallel.h"
#include "tests/ranks/run_ranks.h"

namespace qwen3::testing {
namespace {

struct Scene {
  std::string name;
  int64_t tp = 2;
  bool tied = false;
  bool moe = false;
  parallel::TensorParallelOptions options;
  at::ScalarType dtype = at::kDouble;
};

spec::ModelShape shape_of(const Scene& scene) {
  spec::ModelShape shape{.flavor = "tiny",
                         .dim = 32,
                         .layers = 2,
                         .heads = 8,
                         .kv_heads = 4,
                         .head_dim = 8,
                         .ffn_hidden = 48,
                         .vocab = 101,  // four ranks hold 26, 26, 26 and 23 rows
                         .max_seq_len = 64,
                         .tied = scene.tied};
  if (scene.moe) {
    shape.ffn_hidden = 0;
    shape.experts = 6;
    shape.experts_per_token = 2;
    shape.expert_hidden = 24;
  }
  return shape;
}

// Two sequences of 24 tokens, the first of two documents; some labels are ignored.
model::Microbatch microbatch() {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(5);
  model::Microbatch batch;
  batch.ids = at::randint(101, {2, 24}, generator, at::kLong);
  batch.labels = batch.ids.roll(-1, 1);
  batch.labels.select(1, 23).fill_(model::kIgnoreIndex);
  batch.labels[0][12].fill_(model::kIgnoreIndex);
  batch.positions = at::arange(24).repeat({2, 1});
  batch.positions[0].slice(0, 13).sub_(13);
  return batch;
}

// What a tp rank holds of a weight: a piece along a dim, or the whole; and of the gradient of a whole one, all of it or
// a term of a sum over the ranks.
struct Held {
  std::string_view name;  // the end of the weight's name
  int dim;                // -1: whole
  bool partial;           // the gradient of a whole one
};

Held held(const std::string& name, bool sequence_parallel) {
  const Held table[] = {
      {"tok_embeddings.weight", 0, false},
      {"lm_head.weight", 0, false},
      {"attention.wq.weight", 0, false},
      {"attention.wk.weight", 0, false},
      {"attention.wv.weight", 0, false},
      {"attention.wo.weight", 1, false},
      {"feed_forward.w1.weight", 0, false},
      {"feed_forward.w3.weight", 0, false},
      {"feed_forward.w2.weight", 1, false},
      {"experts.w1", 1, false},
      {"experts.w3", 1, false},
      {"experts.w2", 2, false},
      {"q_norm.weight", -1, true},
      {"k_norm.weight", -1, true},
      {"router.gate.weight", -1, sequence_parallel},
      {"norm.weight", -1, sequence_parallel},
  };
  for (const Held& row : table) {
    if (name.ends_with(row.name)) return row;
  }
  throw std::logic_error("the table has no row for " + name);
}

at::Tensor piece(const at::Tensor& whole, int64_t dim, const parallel::MeshAxis& tp) {
  const int64_t run = (whole.size(dim) + tp.size() - 1) / tp.size(), begin = tp.index() * run;
  return whole.narrow(dim, begin, std::min(run, whole.size(dim) - begin));
}

// Weights far from their initial values, so that no part of the model is nearly linear or nearly idle.
void liven(model::ParameterSet& parameters) {
  c10::NoGradGuard no_gradients;
  std::set<const void*> seen;  // a tied weight is one storage
  for (auto& unit : parameters.units()) {
    for (model::Parameter* p : unit.parameters) {
      if (!seen.insert(p->weight.const_data_ptr()).second) continue;
      if (p->weight.dim() == 1) {
        p->weight.mul_(at::linspace(0.5, 1.5, p->weight.numel(), p->weight.options()));
      } else {
        p->weight.mul_(5);
      }
    }
  }
}

struct Result {
  at::Tensor loss;
  std::map<std::string, at::Tensor> gradients;  // by the parameter's name, so both uses of a tied weight
  std::vector<model::RoutingRecord::Layer> routing;
};

Result step(const Scene& scene, const parallel::MeshAxis& tp, const model::Seams& seams) {
  model::ParameterSet parameters;
  const model::Qwen3 model(shape_of(scene), parameters, seams, {.aux_loss_coeff = scene.moe ? 0.1 : 0});
  model::materialise(parameters, /*seed=*/3, scene.dtype);
  liven(parameters);
  for (auto& unit : parameters.units()) {
    for (model::Parameter* p : unit.parameters) {
      const Held how = held(p->name, false);
      if (how.dim >= 0) p->weight = piece(p->weight.detach(), how.dim, tp).clone().requires_grad_();
    }
  }
  Result result;
  model::RoutingRecord record;
  const at::Tensor loss = model.loss(microbatch(), /*scale=*/1. / 40, scene.moe ? &record : nullptr);
  loss.backward();
  result.loss = loss.detach();
  result.routing = std::move(record.layers);
  for (auto& unit : parameters.units()) {
    for (model::Parameter* p : unit.parameters) result.gradients[p->name] = p->weight.grad();
  }
  return result;
}

// The gradient of the whole weight from what every rank holds.
at::Tensor assembled(const std::string& name, const std::vector<Result>& ranks, bool sequence_parallel) {
  std::vector<at::Tensor> parts;
  for (const Result& rank : ranks) parts.push_back(rank.gradients.at(name));
  const Held how = held(name, sequence_parallel);
  if (how.dim >= 0) return at::cat(parts, how.dim);
  if (how.partial) return at::stack(parts).sum(0);
  for (const at::Tensor& part : parts) EXPECT_TRUE(at::equal(part, parts[0])) << name << " differs between ranks";
  return parts[0];
}

class CutModel : public ::testing::TestWithParam<Scene> {};

// float64: 1e-11 relative L2 (the bound of plan equivalence). float32: loss 1e-6, gradients 5e-6.
TEST_P(CutModel, HasTheLossAndEveryGradientOfTheWhole) {
  const Scene& scene = GetParam();
  const Result whole = step(scene, parallel::MeshAxis(), model::plain_seams());
  std::vector<Result> ranks(static_cast<size_t>(scene.tp));
  run_axis(spec::Axis::kTp, scene.tp, [&](const parallel::MeshAxis& tp) {
    model::Seams seams = model::plain_seams();
    parallel::install_tensor_parallel(seams, tp, scene.options);
    ranks[static_cast<size_t>(tp.index())] = step(scene, tp, seams);
  });
  if (HasFailure()) return;

  const bool exact = scene.dtype == at::kDouble;
  for (const Result& rank : ranks) {
    EXPECT_TRUE(at::equal(rank.loss, ranks[0].loss)) << "ranks hold other bits of the loss";
    EXPECT_NEAR(rank.loss.item<double>() / whole.loss.item<double>(), 1, exact ? 1e-13 : 1e-6);
    for (size_t layer = 0; layer < whole.routing.size(); ++layer) {
      EXPECT_TRUE(at::equal(rank.routing[layer].counts, whole.routing[layer].counts)) << "layer " << layer;
      EXPECT_NEAR(rank.routing[layer].auxiliary_loss.item<double>(), whole.routing[layer].auxiliary_loss.item<double>(),
                  1e-12);
    }
  }
  for (const auto& [name, want] : whole.gradients) {
    const at::Tensor got = assembled(name, ranks, scene.options.sequence_parallel);
    ASSERT_EQ(got.sizes(), want.sizes()) << name;
    ASSERT_GT(want.norm().item<double>(), 0) << name << " has no gradient to compare";
    EXPECT_LE(((got - want).norm() / want.norm()).item<double>(), exact ? 1e-11 : 5e-6) << name;
  }
}

std::vector<Scene> scenes() {
  std::vector<Scene> all;
  const auto add = [&](Scene scene) {
    scene.name = std::string(scene.moe    ? "moe"
                             : scene.tied ? "tied"
                                          : "untied") +
                 std::to_string(scene.tp) + (scene.options.sequence_parallel ? "" : "_whole_sequence") +
                 (scene.options.loss_parallel ? "" : "_gathered_logits") + (scene.options.async ? "_async" : "") +
                 (scene.dtype == at::kDouble ? "" : "_float32");
    all.push_back(scene);
  };
  for (const int64_t tp : {2, 4}) {
    for (const bool loss_parallel : {true, false}) {
      for (const auto& [sequence_parallel, async] : {std::pair{true, false}, {true, true}, {false, false}}) {
        const parallel::TensorParallelOptions options{sequence_parallel, loss_parallel, async};
        add({.tp = tp, .tied = false, .options = options});
        add({.tp = tp, .tied = true, .options = options});
        add({.tp = tp, .moe = true, .options = options});
        add({.tp = tp, .tied = true, .options = options, .dtype = at::kFloat});
      }
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(TensorParallel, CutModel, ::testing::ValuesIn(scenes()),
                         [](const auto& info) { return info.param.name; });

TEST(CutModel, GivesTheLogitsOfTheWhole) {
  const Scene scene;
  const auto logits = [&](const parallel::MeshAxis& tp, const model::Seams& seams) {
    c10::NoGradGuard no_gradients;
    model::ParameterSet parameters;
    const model::Qwen3 model(shape_of(scene), parameters, seams);
    model::materialise(parameters, /*seed=*/3, at::kDouble);
    for (auto& unit : parameters.units()) {
      for (model::Parameter* p : unit.parameters) {
        if (const Held how = held(p->name, true); how.dim >= 0) p->weight = piece(p->weight, how.dim, tp);
      }
    }
    return model.logits(microbatch());
  };
  const at::Tensor want = logits(parallel::MeshAxis(), model::plain_seams());
  run_axis(spec::Axis::kTp, 2, [&](const parallel::MeshAxis& tp) {
    model::Seams seams = model::plain_seams();
    parallel::install_tensor_parallel(seams, tp, {});
    EXPECT_TRUE(at::allclose(logits(tp, seams), want, 1e-12, 1e-13));
  });
}

}  // namespace
}  // namespace qwen3::testing
