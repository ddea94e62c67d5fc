// Five optimizer steps from a Hugging Face folder's weights, beside torch's AdamW on transformers' model: clipping,
// weight decay, the learning rate's schedule and the division by the valid tokens of two microbatches are in it.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/golden/hf_case.h"
#include "tests/ranks/run_ranks.h"
#include "worker/rank/trainer.h"

namespace qwen3 {
namespace {

// The sequences of one batch; a step takes all of them.
class Batch : public data::Dataset {
 public:
  explicit Batch(model::Microbatch batch) : batch_(std::move(batch)) {}
  int64_t sequences() const override { return batch_.ids.size(0); }
  int64_t tokens() const override { return batch_.ids.numel(); }
  data::Sample at(int64_t index) const override {
    return {row(batch_.ids, index), row(batch_.labels, index), row(batch_.positions, index)};
  }

 private:
  static std::vector<int64_t> row(const at::Tensor& of, int64_t index) {
    const auto* begin = of.const_data_ptr<int64_t>() + index * of.size(1);
    return {begin, begin + of.size(1)};
  }
  model::Microbatch batch_;
};

// As tests/golden/make_hf_goldens.py trains.
spec::RunSpec five_steps(const golden::HfCase& scene) {
  spec::RunSpec run;
  run.model = scene.source->model();
  run.optimizer = {.lr = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .no_decay = {"*norm*"}};
  run.lr_schedule = {.warmup_steps = 2, .total_steps = 5, .decay_steps = 2};
  run.data = {.local_batch_size = 1, .seq_len = scene.batch.ids.size(1)};
  run.global_batch_size = 2;
  run.microbatches_per_rank = 2;
  run.steps = 5;
  run.max_norm = 1;
  run.moe.expert_bias_update = false;  // transformers has no such bias
  return run;
}

class ParitySteps : public ::testing::TestWithParam<const char*> {};

TEST_P(ParitySteps, FollowTransformersAndTorchsAdamW) {
  const golden::HfCase scene(GetParam());
  const at::Tensor losses = scene.transformers.tensor("step.loss"), norms = scene.transformers.tensor("step.norm"),
                   rates = scene.transformers.tensor("step.lr");
  testing::run_ranks(testing::data_parallel_mesh(1, 1), [&](const parallel::DeviceMesh& mesh) {
    rank::Trainer trainer(five_steps(scene), mesh, {std::make_shared<Batch>(scene.batch), nullptr});
    for (parallel::ShardedTensor* tensor : trainer.model().tensors()) {
      const at::Tensor weight = golden::read_tensor(*scene.source, tensor->name);
      tensor->box_of(tensor->master).copy_(weight);
    }
    trainer.model().masters_changed();
    double worst = 0;
    for (int64_t step = 1; step <= losses.numel(); ++step) {
      const rank::StepMetrics ours = trainer.step(step, {}).metrics;
      const double loss = losses[step - 1].item<double>(), norm = norms[step - 1].item<double>();
      EXPECT_NEAR(ours.loss, loss, 1e-5 * loss) << "step " << step;
      EXPECT_NEAR(ours.grad_norm, norm, 1e-4 * norm) << "step " << step;
      worst = std::max(worst, std::abs(ours.loss / loss - 1));
      EXPECT_DOUBLE_EQ(ours.lr, rates[step - 1].item<double>()) << "step " << step;
    }
    char text[32];
    std::snprintf(text, sizeof(text), "%.1e", worst);
    ::testing::Test::RecordProperty("loss", text);  // the report has it, and docs/parity.md
  });
}

INSTANTIATE_TEST_SUITE_P(Cases, ParitySteps,
                         ::testing::Values("dense_tied", "dense_untied_sharded", "dense_yarn", "moe_renormalised",
                                           "moe_raw"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace qwen3
