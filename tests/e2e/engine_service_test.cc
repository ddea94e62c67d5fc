// What a job's result promises, through real ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "client/watch.h"
#include "spec/config/data_root.h"
#include "tests/checkpoint/hf_scene.h"
#include "tests/e2e/service_fixture.h"

namespace qwen3::e2e {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

v1::Job run(Service& service, const v1::JobSpec& spec) {
  const auto name = service.submit(spec);
  EXPECT_TRUE(name.ok()) << name.status();
  const auto job = service.wait(*name);
  EXPECT_TRUE(job.ok()) << job.status() << service.logs();
  return *job;
}

// One for each step.
std::vector<v1::StepReport> reports_of(const Service& service, const v1::Job& job) {
  std::vector<v1::StepReport> reports;
  const auto client = service.patient_client();
  const absl::Status end = client::watch_metrics(
      *client, job.name(), {.follow = false},
      [&](const v1::MetricRecord& record, const std::string&) { reports.push_back(record.report()); });
  EXPECT_TRUE(end.ok()) << end;
  return reports;
}

spec::ModelShape tiny_mixture(int64_t experts) {
  spec::ModelShape model = checkpoint::testing::tiny_moe();
  model.experts = experts;
  model.vocab = 2048;
  model.dim = model.expert_hidden = 16;
  return model;
}

// The published and debug mixtures of experts are too large for a test (the last step writes a checkpoint whatever the
// interval, of debugmodel_moe 3.8 GB), so a Hugging Face folder says how large it is.
v1::JobSpec mixture_job(const Service& service, const spec::ModelShape& model, int slots) {
  const std::string folder = service.dir() + "/tiny-moe";
  if (!std::filesystem::exists(folder)) checkpoint::testing::hf_scene(model).write(folder);
  v1::JobSpec spec = service.small_job(slots, /*steps=*/3);
  spec.mutable_model()->clear_flavor();
  spec.mutable_model()->set_init("hf:" + folder);
  spec.mutable_model()->set_tokenizer_path(spec::config::default_data_root() + "/tokenizers/qwen3-2048.tiktoken");
  spec.mutable_moe()->set_aux_loss_coeff(1e-2);
  spec.mutable_moe()->set_aux_loss_scope("global_batch");
  return spec;
}

TEST(EngineService, ANonFiniteLossFailsTheJobAsTheUsersWithoutRetry) {
  Service service(/*workers=*/2);
  v1::JobSpec spec = service.small_job(/*slots=*/2, /*steps=*/12);
  spec.mutable_optimizer()->set_lr(1e30);
  const v1::Job job = run(service, spec);
  EXPECT_EQ(job.state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(job.attempt_count(), 1);
  EXPECT_EQ(job.failure().class_(), v1::FAILURE_CLASS_USER);
  EXPECT_EQ(job.failure().reason(), "NON_FINITE");
  EXPECT_THAT(job.failure().message(), HasSubstr("is not finite"));
  EXPECT_GT(job.failure().step(), 0);
}

TEST(EngineService, TheLastStepIsCommittedAndExported) {
  Service service(/*workers=*/2);
  v1::JobSpec spec = service.small_job(/*slots=*/2, /*steps=*/3);  // the interval of 4 is never reached
  spec.mutable_checkpoint()->set_last_save_in_hf(true);
  const v1::Job job = run(service, spec);
  ASSERT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED) << job.DebugString();
  const auto checkpoints = service.patient_client()->list_checkpoints(job.name());
  ASSERT_TRUE(checkpoints.ok()) << checkpoints.status();
  ASSERT_THAT(*checkpoints, SizeIs(1));
  EXPECT_EQ(checkpoints->front().step(), 3);
  EXPECT_EQ(checkpoints->front().state_digest(), job.result().state_digest());
  EXPECT_TRUE(std::filesystem::exists(checkpoints->front().folder() + "/manifest.json"));
  EXPECT_TRUE(std::filesystem::exists(job.hf_export() + "/model.safetensors"));
}

TEST(EngineService, OneAndTwoRanksEndWithTheSameBits) {
  Service service(/*workers=*/2);
  const v1::Job two = run(service, service.small_job(/*slots=*/2, /*steps=*/3));
  const v1::Job one = run(service, service.small_job(/*slots=*/1, /*steps=*/3));
  EXPECT_EQ(two.result().final_loss_hex(), one.result().final_loss_hex());
  EXPECT_EQ(two.result().state_digest(), one.result().state_digest());
  EXPECT_FALSE(one.result().state_digest().empty());
}

TEST(EngineService, AWarmStartBeginsWithTheOtherJobsWeights) {
  Service service(/*workers=*/1);
  v1::JobSpec spec = service.small_job(/*slots=*/1, /*steps=*/8);
  const v1::Job cold = run(service, spec);
  spec.mutable_training()->set_steps(2);
  spec.mutable_lr_scheduler()->clear_total_steps();
  spec.mutable_lr_scheduler()->set_warmup_steps(1);
  spec.mutable_checkpoint()->set_initial_load_path(cold.latest_checkpoint());
  const v1::Job warm = run(service, spec);
  ASSERT_EQ(warm.state(), v1::JOB_STATE_SUCCEEDED) << warm.DebugString();
  EXPECT_LT(warm.result().first_loss(), cold.result().first_loss() - 0.1);  // it does not begin anew
}

// No product of the two ranks is the one rank's; 1e-6 is what tests/plans allows a loss in float32.
TEST(EngineService, ATensorParallelJobTrainsAsOneRankDoesUpToRounding) {
  Service service(/*workers=*/2);
  v1::JobSpec spec = service.small_job(/*slots=*/2, /*steps=*/3);
  spec.mutable_parallelism()->set_tensor_parallel_degree(2);
  const v1::Job two = run(service, spec), one = run(service, service.small_job(/*slots=*/1, /*steps=*/3));
  ASSERT_EQ(two.state(), v1::JOB_STATE_SUCCEEDED) << two.DebugString();
  const std::vector<v1::StepReport> cut = reports_of(service, two), whole = reports_of(service, one);
  ASSERT_THAT(cut, SizeIs(3));
  ASSERT_THAT(whole, SizeIs(3));
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_TRUE(cut[i].split().wait_seconds().contains("tp"));
    EXPECT_EQ(cut[i].valid_tokens(), whole[i].valid_tokens());
    EXPECT_NEAR(cut[i].loss(), whole[i].loss(), 1e-6 * whole[i].loss());
  }
}

TEST(EngineService, AnExpertParallelJobEndsWithTheBitsOfOneRank) {
  Service service(/*workers=*/2);
  const spec::ModelShape model = tiny_mixture(/*experts=*/4);
  v1::JobSpec spec = mixture_job(service, model, /*slots=*/2);
  spec.mutable_parallelism()->set_expert_parallel_degree(2);
  const v1::Job two = run(service, spec), one = run(service, mixture_job(service, model, /*slots=*/1));
  ASSERT_EQ(two.state(), v1::JOB_STATE_SUCCEEDED) << two.DebugString();
  EXPECT_EQ(two.result().state_digest(), one.result().state_digest());
  const std::vector<v1::StepReport> cut = reports_of(service, two), whole = reports_of(service, one);
  ASSERT_THAT(cut, SizeIs(3));
  ASSERT_THAT(whole, SizeIs(3));
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_TRUE(cut[i].split().wait_seconds().contains("ep"));
    EXPECT_EQ(cut[i].loss_hex(), whole[i].loss_hex());
    EXPECT_EQ(cut[i].grad_norm(), whole[i].grad_norm()) << i;
    EXPECT_EQ(cut[i].moe().aux_loss(), whole[i].moe().aux_loss()) << i;
  }
}

TEST(EngineService, AMixtureOfExpertsTrainsAlikeOnOneAndTwoRanksAndTellsItsLoad) {
  Service service(/*workers=*/2);
  const spec::ModelShape model = tiny_mixture(/*experts=*/5);
  const v1::Job two = run(service, mixture_job(service, model, /*slots=*/2)),
                one = run(service, mixture_job(service, model, /*slots=*/1));
  ASSERT_EQ(two.state(), v1::JOB_STATE_SUCCEEDED) << two.DebugString();
  EXPECT_EQ(two.result().final_loss_hex(), one.result().final_loss_hex());
  EXPECT_EQ(two.result().state_digest(), one.result().state_digest());

  const std::vector<v1::StepReport> reports = reports_of(service, two);
  ASSERT_THAT(reports, SizeIs(3));
  for (const v1::StepReport& report : reports) {
    ASSERT_EQ(report.moe().max_over_mean_size(), model.layers);
    for (const double load : report.moe().max_over_mean()) {
      EXPECT_GE(load, 1);
      EXPECT_LE(load, static_cast<double>(model.experts) / static_cast<double>(model.experts_per_token));
    }
    EXPECT_GT(report.moe().aux_loss(), 0);
  }
}

}  // namespace
}  // namespace qwen3::e2e
