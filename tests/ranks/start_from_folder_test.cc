// Runs that begin from a Hugging Face folder, fine-tuning, and evaluations of what a run wrote.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "spec/config/data_root.h"
#include "tests/ranks/gang.h"
#include "tests/ranks/tiny_folder.h"
#include "tests/temporary_folder.h"

namespace qwen3::testing {
namespace {

constexpr uint64_t kSeed = 11;  // of write_hf_folder's weights

class StartFromFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    shape_ = tiny_shape(/*tied=*/true);
    shape_.vocab = 2048;  // of the debug tokenizer
    write_hf_folder(folder_ + "/hf", shape_);
    assignment_.set_job("tenants/default/jobs/one");
    assignment_.set_attempt(1);
    assignment_.set_advertise_address("127.0.0.1");
    assignment_.set_checkpoint_folder(folder_ + "/checkpoints");
  }

  v1::JobSpec tiny_job() const {
    v1::JobSpec spec;
    spec.mutable_model()->set_init("hf:" + folder_ + "/hf");
    spec.mutable_model()->set_tokenizer_path(environment_.data_root + "/tokenizers/qwen3-2048.tiktoken");
    spec.mutable_training()->set_local_batch_size(1);
    spec.mutable_training()->set_global_batch_size(4);
    spec.mutable_training()->set_seq_len(32);
    spec.mutable_training()->set_steps(3);
    spec.mutable_lr_scheduler()->set_warmup_steps(0);
    spec.mutable_debug()->set_ordered(true);
    spec.mutable_debug()->set_seed(kSeed);
    return spec;
  }

  // Runs the job on `ranks` ranks; its checkpoints go where no earlier run's are.
  GangOutcome run(v1::JobSpec spec, int ranks) {
    spec.mutable_resources()->set_slots(ranks);
    spec::config::fill_defaults(spec);
    for (const auto& violation : spec::config::check(spec, environment_)) ADD_FAILURE() << violation.message;
    std::filesystem::remove_all(assignment_.checkpoint_folder());
    assignment_.set_world_size(ranks);
    *assignment_.mutable_spec() = spec;
    return perform_as_threads(assignment_, environment_);
  }

  static std::vector<double> losses(const GangOutcome& outcome) {
    std::vector<double> losses;
    for (const rank::StepMetrics& step : outcome.steps) losses.push_back(step.loss);
    return losses;
  }

  spec::config::Environment environment_{.data_root = spec::config::default_data_root()};
  const tests::TemporaryFolder temporary_{"start"};
  const std::string folder_ = temporary_.path();
  spec::ModelShape shape_;
  internal::v1::RankAssignment assignment_;
};

// The folder holds the very weights that the seed gives, so both runs are one.
TEST_F(StartFromFolder, EqualsTheRunWhoseWeightsAreInTheFolder) {
  const spec::ModelShape debug = *spec::find_flavor("debugmodel");
  write_hf_folder(folder_ + "/hf", debug);
  v1::JobSpec from_folder = tiny_job();
  from_folder.mutable_training()->set_steps(2);
  v1::JobSpec from_seed = from_folder;
  from_seed.mutable_model()->clear_init();
  from_seed.mutable_model()->set_flavor("debugmodel");
  const GangOutcome seed = run(from_seed, 1);
  ASSERT_EQ(seed.error, "");
  ASSERT_EQ(losses(seed).size(), 2U);
  for (const int ranks : {1, 2}) {
    const GangOutcome folder = run(from_folder, ranks);
    ASSERT_EQ(folder.error, "") << ranks << " ranks";
    EXPECT_EQ(losses(folder), losses(seed)) << ranks << " ranks";
  }
  // Another folder's weights give other losses, or nothing above could fail.
  from_seed.mutable_debug()->set_seed(kSeed + 1);
  EXPECT_NE(losses(run(from_seed, 1))[0], losses(seed)[0]);
}

TEST_F(StartFromFolder, ARestartTakesTheCheckpointAndNotTheFolder) {
  const GangOutcome first = run(tiny_job(), 1);
  ASSERT_EQ(first.error, "");
  const std::string checkpoint = assignment_.checkpoint_folder() + "/step-3.attempt-1";
  assignment_.set_attempt(2);
  assignment_.set_restore_folder(checkpoint);
  const GangOutcome again = perform_as_threads(assignment_, environment_);
  EXPECT_EQ(again.error, "");
  EXPECT_EQ(again.result.result().state_digest(), first.result.result().state_digest());
}

class EvaluationAfterTraining : public StartFromFolder, public ::testing::WithParamInterface<bool> {};

// The same microbatches, the same sum: bit by bit, though one is in the run and the other long after it. A mixture of
// experts brings its routers' biases along, which here are large enough to decide the routing.
TEST_P(EvaluationAfterTraining, SaysWhatTheRunsValidationSaid) {
  if (GetParam()) {
    shape_ = tiny_moe_shape();
    shape_.vocab = 2048;
    write_hf_folder(folder_ + "/hf", shape_);
  }
  const std::string held_out = folder_ + "/held_out.txt";
  { std::ofstream(held_out) << std::string(300, 'x') + " to be, or not to be: " + std::string(200, 'y'); }
  v1::JobSpec spec = tiny_job();
  spec.mutable_validation()->set_enable(true);
  spec.mutable_validation()->set_dataset_path(held_out);
  spec.mutable_validation()->set_local_batch_size(2);
  spec.mutable_moe()->set_load_balance_coeff(0.5);
  const GangOutcome trained = run(spec, 1);
  ASSERT_EQ(trained.error, "");
  ASSERT_TRUE(trained.result.result().has_validation());

  internal::v1::RankAssignment task;
  task.set_job("tenants/default/operations/one");
  task.set_attempt(1);
  task.set_advertise_address("127.0.0.1");
  task.mutable_spec()->mutable_resources()->set_threads_per_rank(1);
  v1::EvaluationSpec& evaluation = *task.mutable_evaluation();
  evaluation.mutable_model()->set_native(assignment_.checkpoint_folder() + "/step-3.attempt-1");
  evaluation.set_text_path(held_out);
  evaluation.set_seq_len(32);
  evaluation.set_local_batch_size(2);
  for (const int ranks : {1, 2}) {
    task.set_world_size(ranks);
    task.mutable_spec()->mutable_resources()->set_slots(ranks);
    const GangOutcome evaluated = perform_as_threads(task, environment_);
    ASSERT_EQ(evaluated.error, "");
    EXPECT_EQ(evaluated.result.evaluation().loss(), trained.result.result().validation_loss()) << ranks << " ranks";
    EXPECT_EQ(evaluated.result.evaluation().step(), 3);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, EvaluationAfterTraining, ::testing::Bool(),
                         [](const auto& info) { return std::string(info.param ? "Moe" : "Dense"); });

TEST_F(StartFromFolder, FineTuningOnPairsMakesTheirLossFall) {
  v1::JobSpec spec = tiny_job();
  v1::TrainingSection& training = *spec.mutable_training();
  training.set_dataset_path(std::string(QWEN3_SOURCE_DIR) + "/configs/finetune_example.jsonl");
  training.set_prompt_key("prompt");
  training.set_seq_len(64);
  training.set_steps(40);
  spec.mutable_optimizer()->set_lr(1e-2);
  const GangOutcome outcome = run(spec, 1);
  ASSERT_EQ(outcome.error, "");
  const std::vector<double> all = losses(outcome);
  ASSERT_EQ(all.size(), 40U);
  EXPECT_LT(all.back(), 0.7 * all.front());
  EXPECT_LT(outcome.steps.front().valid_tokens, 4 * 64 / 2 + 4 * 64 / 4);  // the prompts have no labels
}

}  // namespace
}  // namespace qwen3::testing
