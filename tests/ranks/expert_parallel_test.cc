// Expert parallelism, each rank with a microbatch of its own, against one process with all experts that runs the same
// microbatches one after the other.
#include "parallel/expert/expert_parallel.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "model/moe.h"
#include "model/qwen3.h"
#include "parallel/collectives.h"
#include "parallel/expert/row_exchange.h"
#include "parallel/ordered_sum.h"
#include "tests/ranks/run_ranks.h"

namespace qwen3::testing {
namespace {

constexpr int64_t kDim = 16, kHidden = 24, kExperts = 8, kTokens = 21;

spec::ModelShape tiny(int64_t choices) {
  return {.flavor = "tiny_moe",
          .dim = kDim,
          .layers = 2,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 16,
          .vocab = 61,
          .max_seq_len = 64,
          .experts = kExperts,
          .experts_per_token = choices,
          .expert_hidden = kHidden,
          .norm_topk_prob = choices > 1};  // the gate of a single choice would always be 1
}

// How the rows fall on the experts; a bias of 100 decides any choice.
struct Load {
  const char* name;
  int64_t choices;
  std::vector<double> bias;
  bool round_robin = false;
};
const Load kLoads[] = {
    {"AsRouted", 3, {0, 0, 0, 0, 0, 0, 0, 0}},
    {"AnExpertWithoutRows", 3, {0, 0, 0, 0, 0, -100, 0, 0}},
    {"ARankWithoutRows", 3, {100, 100, 100, 100, 0, 0, 0, 0}},
    {"AllToOneExpert", 1, {0, 0, 0, 0, 0, 0, 100, 0}},
    {"RoundRobin", 3, {0, 0, 0, 0, 0, 0, 0, 0}, true},
};

at::Tensor normal(at::IntArrayRef shape, uint64_t seed, at::ScalarType dtype) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::empty(shape, at::kDouble).normal_(0, 1, generator).to(dtype);
}

bool is_expert(const model::Parameter& parameter) { return parameter.name.find(".experts.") != std::string::npos; }

// Leaves the experts of one place on ep.
void cut_experts(model::ParameterSet& parameters, const parallel::MeshAxis& ep) {
  for (auto& unit : parameters.units()) {
    for (model::Parameter* p : unit.parameters) {
      if (is_expert(*p)) p->weight = p->weight.detach().chunk(ep.size())[ep.index()].clone().requires_grad_();
    }
  }
}

// What one microbatch gives.
struct Result {
  at::Tensor y, x, gates, router;   // the last three are gradients
  std::vector<at::Tensor> experts;  // gradients of w1, w2, w3
};

// A MoE layer with larger weights than the initial ones, so that the router has opinions.
class Layer {
 public:
  Layer(const Load& load, at::ScalarType dtype) : dtype_(dtype) {
    parameters_.begin_unit("layers.0");
    moe_ = std::make_unique<model::Moe>(tiny(load.choices), spec::MoeSpec{.force_load_balance = load.round_robin}, 0,
                                        parameters_, seams_);
    model::materialise(parameters_, /*seed=*/3, dtype);
    torch::NoGradGuard no_gradients;
    for (model::Parameter* p : parameters_.units()[0].parameters) p->weight.mul_(20);
    parameters_.buffers().front().value.copy_(at::tensor(load.bias, at::kDouble));
  }
  Layer(const Load& load, at::ScalarType dtype, const parallel::MeshAxis& ep,
        const parallel::ExpertParallelOptions& options)
      : Layer(load, dtype) {
    cut_experts(parameters_, ep);
    parallel::install_expert_parallel(seams_, ep, options);
  }

  Result run(int64_t microbatch, int64_t tokens = kTokens) {
    const auto seed = static_cast<uint64_t>(microbatch);
    const at::Tensor x = normal({tokens, kDim}, 100 + seed, dtype_).requires_grad_();
    const model::Moe::Choice choice = moe_->choose(x, {});
    choice.gates.retain_grad();
    const model::Dispatched to = moe_->dispatch(x, choice.chosen);
    const model::Moe::GateUp hidden = moe_->gate_up(to.rows, to.counts);
    const at::Tensor y = moe_->combine(hidden.gate, hidden.up, to.counts, choice.gates, to.order, to.route);
    y.backward(normal({tokens, kDim}, 200 + seed, dtype_));
    Result result{y.detach(), x.grad(), choice.gates.grad(), take_gradient(0), {}};
    for (const size_t i : {1, 2, 3}) result.experts.push_back(take_gradient(i));
    return result;
  }

 private:
  at::Tensor take_gradient(size_t parameter) {
    return std::exchange(parameters_.units()[0].parameters[parameter]->weight.mutable_grad(), at::Tensor());
  }

  at::ScalarType dtype_;
  model::Seams seams_ = model::plain_seams();
  model::ParameterSet parameters_;
  std::unique_ptr<model::Moe> moe_;
};

std::vector<Result> one_process(const Load& load, at::ScalarType dtype, int64_t microbatches,
                                int64_t tokens = kTokens) {
  Layer layer(load, dtype);
  std::vector<Result> results;
  for (int64_t m = 0; m < microbatches; ++m) results.push_back(layer.run(m, tokens));
  return results;
}

// Weight `i` of the experts: the microbatches' gradients, added as the optimizer step of one process does.
at::Tensor summed_gradient(const std::vector<Result>& results, size_t i) {
  std::vector<at::Tensor> gradients;
  for (const Result& result : results) gradients.push_back(result.experts[i]);
  return parallel::tree_sum_(at::stack(gradients));
}

// Relative L2 norm of the difference at most `tolerance`; of 0, the bits are the same.
::testing::AssertionResult agree(const at::Tensor& got, const at::Tensor& want, double tolerance) {
  if (got.sizes() != want.sizes()) return ::testing::AssertionFailure() << got.sizes() << " for " << want.sizes();
  const auto bits = [](const at::Tensor& t) {
    return t.contiguous().view(t.element_size() == 8 ? at::kLong : at::kInt);
  };
  if (tolerance == 0) {
    if (at::equal(bits(got), bits(want))) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << "differs by " << (got - want).abs().max().item<double>();
  }
  const at::Tensor wide = want.to(at::kDouble);
  const double error = (got.to(at::kDouble) - wide).norm().item<double>(), size = wide.norm().item<double>();
  if (error <= tolerance * size) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "differs by " << error << " of " << size;
}

void expect_agree(const Result& got, const Result& want, double tolerance) {
  EXPECT_TRUE(agree(got.y, want.y, tolerance)) << "outputs";
  EXPECT_TRUE(agree(got.x, want.x, tolerance)) << "gradient of the inputs";
  EXPECT_TRUE(agree(got.gates, want.gates, tolerance)) << "gradient of the gates";
  EXPECT_TRUE(agree(got.router, want.router, tolerance)) << "gradient of the router";
}

spec::Mesh mesh_of(int64_t shard, int64_t tp, int64_t ep) {
  spec::Mesh mesh = data_parallel_mesh(1, shard);
  mesh.degrees[static_cast<int>(spec::Axis::kTp)] = tp;
  mesh.ep = ep;
  return mesh;
}

struct Mode {
  const char* name;
  at::ScalarType dtype;
  bool ordered;
  double tolerance;
};
const Mode kModes[] = {
    {"Ordered", at::kFloat, true, 0},
    {"Fast", at::kDouble, false, 1e-11},
    // GEMMs over other rows, and one rounding to 8 bits (2^-9) of the sum instead of one for each microbatch.
    {"FastBFloat16", at::kBFloat16, false, 1e-2},
};

class EveryLoad : public ::testing::TestWithParam<std::tuple<int, int, int64_t>> {};

TEST_P(EveryLoad, GivesWhatOneProcessGives) {
  const Load& load = kLoads[std::get<0>(GetParam())];
  const Mode& mode = kModes[std::get<1>(GetParam())];
  const int64_t ranks = std::get<2>(GetParam());
  const std::vector<Result> want = one_process(load, mode.dtype, ranks);
  run_ranks(mesh_of(ranks, 1, ranks), [&](const parallel::DeviceMesh& mesh) {
    Layer layer(load, mode.dtype, mesh.ep(), {.ordered = mode.ordered});
    const Result got = layer.run(mesh.rank());
    expect_agree(got, want[static_cast<size_t>(mesh.rank())], mode.tolerance);
    for (size_t i = 0; i < 3; ++i) {
      const at::Tensor gradient = summed_gradient(want, i).chunk(ranks)[mesh.rank()];
      EXPECT_TRUE(agree(got.experts[i], gradient, mode.tolerance))
          << "experts, weight " << i << ", rank " << mesh.rank();
    }
  });
}

INSTANTIATE_TEST_SUITE_P(ExpertParallel, EveryLoad,
                         ::testing::Combine(::testing::Range(0, 5), ::testing::Range(0, 3), ::testing::Values(2, 4)),
                         [](const auto& info) {
                           return std::string(kLoads[std::get<0>(info.param)].name) +
                                  kModes[std::get<1>(info.param)].name + std::to_string(std::get<2>(info.param));
                         });

TEST(ExpertParallel, TheLoadsAreWhatTheirNamesSay) {  // or the test above would show less than it seems to
  const auto counts = [](const Load& load) {
    model::RoutingRecord record{std::vector<model::RoutingRecord::Layer>(1)};
    model::Seams seams = model::plain_seams();
    model::ParameterSet parameters;
    parameters.begin_unit("layers.0");
    const model::Moe moe(tiny(load.choices), {.force_load_balance = load.round_robin}, 0, parameters, seams);
    model::materialise(parameters, /*seed=*/3, at::kDouble);
    parameters.buffers().front().value.copy_(at::tensor(load.bias, at::kDouble));
    moe.choose(normal({kTokens, kDim}, 100, at::kDouble), {.record = &record});
    return record.layers[0].counts;
  };
  EXPECT_EQ(counts(kLoads[1])[5].item<int64_t>(), 0);
  EXPECT_EQ(counts(kLoads[2]).narrow(0, 0, 4).sum().item<int64_t>(), kTokens * 3);
  EXPECT_EQ(counts(kLoads[3])[6].item<int64_t>(), kTokens);
}

// tp ranks with the same tokens divide them. 21 tokens are 11 and 10, or 6, 6, 6 and 3; 5 are 2, 2, 1 and none.
TEST(ExpertParallel, RanksWithTheSameTokensDivideThem) {
  struct Case {
    int64_t shard, tp, ep, tokens;
  };
  const Load& load = kLoads[0];
  for (const Case& c : {Case{1, 2, 2, 21}, Case{2, 2, 4, 21}, Case{2, 2, 2, 21}, Case{1, 4, 2, 21}, Case{1, 4, 4, 5}}) {
    const std::vector<Result> want = one_process(load, at::kDouble, c.shard, c.tokens);
    for (const bool ordered : {true, false}) {
      run_ranks(mesh_of(c.shard, c.tp, c.ep), [&](const parallel::DeviceMesh& mesh) {
        SCOPED_TRACE("shard " + std::to_string(c.shard) + " tp " + std::to_string(c.tp) + " ep " +
                     std::to_string(c.ep));
        const parallel::MeshAxis& tp = mesh.axis(spec::Axis::kTp);
        Layer layer(load, at::kDouble, mesh.ep(), {.ordered = ordered, .same_tokens = &tp});
        const int64_t microbatch = mesh.axis(spec::Axis::kDpShard).index();
        const Result got = layer.run(microbatch, c.tokens);
        expect_agree(got, want[static_cast<size_t>(microbatch)], 1e-11);
        for (size_t i = 0; i < 3; ++i) {
          const at::Tensor over_efsdp = parallel::all_gather(got.experts[i], mesh.efsdp()).sum(0);
          EXPECT_TRUE(agree(over_efsdp, summed_gradient(want, i).chunk(c.ep)[mesh.ep().index()], 1e-11)) << i;
        }
      });
    }
  }
}

// Another back end in the default one's place: that one, with its calls counted.
class CountedExchange : public parallel::RowExchange {
 public:
  struct Calls {
    int counts = 0, rows = 0, gradients = 0;
  };
  explicit CountedExchange(const parallel::MeshAxis& ep) : exchange_(parallel::all_to_all_exchange(ep)) {}

  at::Tensor counts(const at::Tensor& counts, at::Device device) const override {
    ++calls_.counts;
    return exchange_->counts(counts, device);
  }
  at::Tensor rows(const at::Tensor& rows, const std::vector<int64_t>& sent,
                  const std::vector<int64_t>& received) const override {
    ++calls_.rows;
    const at::Tensor arrived = exchange_->rows(rows, sent, received);
    arrived.register_hook([this](const at::Tensor&) { ++calls_.gradients; });
    return arrived;
  }
  const Calls& calls() const { return calls_; }

 private:
  std::shared_ptr<const parallel::RowExchange> exchange_;
  mutable Calls calls_;  // by the thread of the rank alone
};

TEST(ExpertParallel, AnotherExchangeTakesThePlaceOfTheDefaultOne) {
  for (const Load& load : {kLoads[0], kLoads[2]}) {  // and where a rank gets no rows
    for (const bool ordered : {true, false}) {
      run_ranks(mesh_of(2, 1, 2), [&](const parallel::DeviceMesh& mesh) {
        SCOPED_TRACE(std::string(load.name) + (ordered ? ", ordered" : ", fast"));
        Layer with_default(load, at::kFloat, mesh.ep(), {.ordered = ordered});
        const Result want = with_default.run(mesh.rank());
        const auto exchange = std::make_shared<const CountedExchange>(mesh.ep());
        Layer layer(load, at::kFloat, mesh.ep(), {.ordered = ordered, .exchange = exchange});
        for (int microbatches = 1; microbatches <= 2; ++microbatches) {
          const Result got = layer.run(mesh.rank());
          expect_agree(got, want, 0);
          for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(agree(got.experts[i], want.experts[i], 0)) << "weight " << i;
          EXPECT_EQ(exchange->calls().counts, microbatches);
          EXPECT_EQ(exchange->calls().rows, 2 * microbatches);  // to the experts and back
          EXPECT_EQ(exchange->calls().gradients, 2 * microbatches);
        }
      });
    }
  }
}

TEST(ExpertParallel, ExpertsThatCannotBeDividedAreRefused) {
  run_ranks(mesh_of(3, 1, 3), [](const parallel::DeviceMesh& mesh) {
    model::Seams seams = model::plain_seams();
    parallel::install_expert_parallel(seams, mesh.ep());
    const at::Tensor chosen = at::zeros({kTokens, 1}, at::kLong);
    EXPECT_THROW(seams.dispatch(at::zeros({kTokens, kDim}), chosen, kExperts), c10::ValueError);
  });
}

// The whole model: two layers, so the gradient of the first layer's experts comes through the second's.
struct ModelResult {
  at::Tensor loss;
  std::vector<at::Tensor> gradients;  // in the order of the parameters
};

class TinyModel {
 public:
  explicit TinyModel(const parallel::DeviceMesh* mesh) : qwen3_(tiny(3), parameters_, seams_of(mesh)) {
    model::materialise(parameters_, /*seed=*/5, at::kFloat);
    if (mesh != nullptr) cut_experts(parameters_, mesh->ep());
  }
  ModelResult run(int64_t microbatch) {
    const at::Tensor ids = at::arange(48).mul(37 + 2 * microbatch).add(microbatch).remainder(61).view({2, 24});
    const model::Microbatch batch{.ids = ids, .labels = ids.roll(-1, 1), .positions = at::arange(24).repeat({2, 1})};
    const at::Tensor loss = qwen3_.loss(batch, 1.0 / 96);
    loss.backward();
    ModelResult result{loss.detach(), {}};
    for (const model::Parameter* p : parameters()) {
      result.gradients.push_back(std::exchange(p->weight.mutable_grad(), at::Tensor()));
    }
    return result;
  }
  std::vector<model::Parameter*> parameters() {
    std::vector<model::Parameter*> all;
    for (auto& unit : parameters_.units()) all.insert(all.end(), unit.parameters.begin(), unit.parameters.end());
    return all;
  }

 private:
  static model::Seams seams_of(const parallel::DeviceMesh* mesh) {
    model::Seams seams = model::plain_seams();
    if (mesh != nullptr) parallel::install_expert_parallel(seams, mesh->ep(), {.ordered = true});
    return seams;
  }

  model::ParameterSet parameters_;
  model::Qwen3 qwen3_;
};

TEST(ExpertParallel, AModelsLossAndEveryGradientAreBitwiseThoseOfOneProcess) {
  for (const int64_t ranks : {2, 4}) {
    TinyModel whole(nullptr);
    std::vector<ModelResult> want;
    for (int64_t m = 0; m < ranks; ++m) want.push_back(whole.run(m));
    run_ranks(mesh_of(ranks, 1, ranks), [&](const parallel::DeviceMesh& mesh) {
      TinyModel mine(&mesh);
      const ModelResult got = mine.run(mesh.rank());
      EXPECT_TRUE(agree(got.loss, want[static_cast<size_t>(mesh.rank())].loss, 0));
      const std::vector<model::Parameter*> parameters = mine.parameters();
      for (size_t i = 0; i < parameters.size(); ++i) {
        at::Tensor gradient = want[static_cast<size_t>(mesh.rank())].gradients[i];
        if (is_expert(*parameters[i])) {
          std::vector<at::Tensor> all;
          for (const ModelResult& result : want) all.push_back(result.gradients[i]);
          gradient = parallel::tree_sum_(at::stack(all)).chunk(ranks)[mesh.rank()];
        }
        EXPECT_TRUE(agree(got.gradients[i], gradient, 0)) << parameters[i]->name << ", rank " << mesh.rank();
      }
    });
  }
}

}  // namespace
}  // namespace qwen3::testing
