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

// The published and debug mixtures of experts are too large for a test, so a Hugging Face folder says how large it is.
TEST(EngineService, AMixtureOfExpertsTrainsAlikeOnOneAndTwoRanksAndTellsItsLoad) {
  Service service(/*workers=*/2);
  spec::ModelShape model = checkpoint::testing::tiny_moe();
  model.vocab = 2048;
  const std::string folder = service.dir() + "/tiny-moe";
  checkpoint::testing::hf_scene(model).write(folder);
  const auto spec = [&](int slots) {
    v1::JobSpec spec = service.small_job(slots, /*steps=*/3);
    spec.mutable_model()->clear_flavor();
    spec.mutable_model()->set_init("hf:" + folder);
    spec.mutable_model()->set_tokenizer_path(spec::config::default_data_root() + "/tokenizers/qwen3-2048.tiktoken");
    spec.mutable_moe()->set_aux_loss_coeff(1e-2);
    spec.mutable_moe()->set_aux_loss_scope("global_batch");
    return spec;
  };
  const v1::Job two = run(service, spec(2)), one = run(service, spec(1));
  ASSERT_EQ(two.state(), v1::JOB_STATE_SUCCEEDED) << two.DebugString();
  EXPECT_EQ(two.result().final_loss_hex(), one.result().final_loss_hex());
  EXPECT_EQ(two.result().state_digest(), one.result().state_digest());

  std::vector<v1::StepReport> reports;
  const auto client = service.patient_client();
  const absl::Status end = client::watch_metrics(
      *client, two.name(), {.follow = false},
      [&](const v1::MetricRecord& record, const std::string&) { reports.push_back(record.report()); });
  ASSERT_TRUE(end.ok()) << end;
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
