// A whole run of one rank, as qwen3-rank --standalone does it.
#include "worker/rank/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <system_error>

#include "checkpoint/manifest.h"
#include "spec/config/data_root.h"
#include "spec/config/job_spec.h"
#include "tests/temporary_folder.h"
#include "worker/rank/error_boundary.h"
#include "worker/rank/standalone_link.h"
#include "worker/rank/wire.h"

namespace qwen3::testing {
namespace {

// Keeps the digests in the steps' reports and what the run reports at its end.
class RecordingLink : public rank::StandaloneLink {
 public:
  void step_done(int64_t step, const rank::StepMetrics* metrics) override {
    if (metrics != nullptr) digests_[step] = rank::to_wire(*metrics).state_digest();
  }
  void finished(const internal::v1::RunFinished& result) override { result_ = result; }
  const internal::v1::RunFinished& result() const { return result_; }
  const std::map<int64_t, std::string>& digests() const { return digests_; }  // by step

 private:
  internal::v1::RunFinished result_;
  std::map<int64_t, std::string> digests_;
};

class WholeRun : public ::testing::Test {
 protected:
  const tests::TemporaryFolder folder_{"run"};

  void SetUp() override {
    assignment_.set_job("tenants/default/jobs/one");
    assignment_.set_attempt(1);
    assignment_.set_world_size(1);
    assignment_.set_advertise_address("127.0.0.1");
    assignment_.set_checkpoint_folder(folder_.path());
    v1::JobSpec& spec = *assignment_.mutable_spec();
    spec.mutable_model()->set_flavor("debugmodel");
    spec.mutable_training()->set_local_batch_size(1);
    spec.mutable_training()->set_seq_len(32);
    spec.mutable_training()->set_steps(2);
    spec.mutable_validation()->set_enable(true);
    spec.mutable_validation()->set_steps(2);
    spec.mutable_debug()->set_ordered(true);
    spec::config::fill_defaults(spec);
    ASSERT_THAT(spec::config::check(spec, environment_), ::testing::IsEmpty());
  }

  internal::v1::RunFinished run() {
    RecordingLink link;
    rank::run(assignment_, environment_, link);
    return link.result();
  }

  spec::config::Environment environment_{.data_root = spec::config::default_data_root()};
  internal::v1::RankAssignment assignment_;
};

// A rank may die after the last commit and before its report: the next attempt has nothing left to train or to save.
TEST_F(WholeRun, RestoredFromItsLastCheckpointOnlyReports) {
  const internal::v1::RunFinished first = run();
  assignment_.set_attempt(2);
  assignment_.set_restore_folder(assignment_.checkpoint_folder() + "/step-2.attempt-1");
  const internal::v1::RunFinished again = run();

  EXPECT_EQ(again.step(), 2);
  EXPECT_EQ(again.result().final_loss_hex(), first.result().final_loss_hex());
  EXPECT_EQ(again.result().validation_loss(), first.result().validation_loss());
  EXPECT_EQ(again.result().state_digest(), first.result().state_digest());
  EXPECT_EQ(again.result().first_loss(), first.result().first_loss());
  EXPECT_FALSE(std::filesystem::exists(assignment_.checkpoint_folder() + "/step-2.attempt-2"));
}

TEST_F(WholeRun, EveryNthReportHasTheDigestOfTheStateThatACheckpointOfTheStepHas) {
  v1::JobSpec& spec = *assignment_.mutable_spec();
  spec.mutable_training()->set_steps(4);
  spec.mutable_lr_scheduler()->set_total_steps(4);
  spec.mutable_checkpoint()->set_interval(2);
  spec.mutable_debug()->set_state_digest_freq(2);
  ASSERT_THAT(spec::config::check(spec, environment_), ::testing::IsEmpty());
  RecordingLink link;
  rank::run(assignment_, environment_, link);

  const auto digest_at = [&](int64_t step) {
    const auto manifest = checkpoint::read_manifest(folder_.file("step-" + std::to_string(step) + ".attempt-1"));
    EXPECT_TRUE(manifest.ok()) << manifest.status();
    return manifest.ok() ? manifest->state_digest : "none";
  };
  const std::map<int64_t, std::string> wanted = {{1, ""}, {2, digest_at(2)}, {3, ""}, {4, digest_at(4)}};
  EXPECT_EQ(link.digests(), wanted);
  EXPECT_NE(wanted.at(2), wanted.at(4));
  EXPECT_EQ(link.result().result().state_digest(), wanted.at(4));
}

TEST_F(WholeRun, TwoSavesThatFailDoNotEndTheSaving) {
  v1::JobSpec& spec = *assignment_.mutable_spec();
  spec.mutable_training()->set_steps(4);
  spec.clear_lr_scheduler();
  spec.mutable_checkpoint()->set_interval(1);
  spec::config::fill_defaults(spec);
  for (const char* step : {"1", "2"}) {  // no folder can be made where a file is
    std::ofstream(assignment_.checkpoint_folder() + "/step-" + step + ".attempt-1") << "in the way";
  }
  run();
  EXPECT_TRUE(std::filesystem::exists(assignment_.checkpoint_folder() + "/step-3.attempt-1/manifest.json"));
}

TEST_F(WholeRun, AFullWarmStartWantsMoreStepsThanItsCheckpointHasDone) {
  run();
  const tests::TemporaryFolder own("warm");
  assignment_.set_initial_load_folder(folder_.file("step-2.attempt-1"));
  assignment_.set_checkpoint_folder(own.path());
  v1::JobSpec& spec = *assignment_.mutable_spec();
  spec.mutable_checkpoint()->set_initial_load_model_only(false);
  const auto failed = rank::run_guarded([&] { run(); });
  ASSERT_TRUE(failed.has_value()) << "it ended without a step of its own";
  EXPECT_EQ(failed->failure().class_(), v1::FAILURE_CLASS_USER);
  const std::string why = assignment_.initial_load_folder() + " is of step 2, but training.steps is 2: ";
  EXPECT_THAT(failed->failure().message(), ::testing::HasSubstr(why));

  spec.mutable_training()->set_steps(3);
  spec.clear_lr_scheduler();
  spec::config::fill_defaults(spec);
  EXPECT_EQ(run().step(), 3);
  EXPECT_TRUE(std::filesystem::exists(own.file("step-3.attempt-1/manifest.json")));
}

TEST_F(WholeRun, ProfilingAloneWritesATraceOfEveryNthStep) {
  v1::JobSpec& spec = *assignment_.mutable_spec();
  spec.mutable_training()->set_steps(4);
  spec.clear_lr_scheduler();
  spec.mutable_profiling()->set_enable_profiling(true);
  spec.mutable_profiling()->set_profile_freq(2);
  spec::config::fill_defaults(spec);
  ASSERT_THAT(spec::config::check(spec, environment_), ::testing::IsEmpty());
  run();
  std::set<std::string> traces;
  std::error_code none;  // then the set is empty
  for (const auto& entry : std::filesystem::directory_iterator(folder_.file("profile_traces"), none)) {
    traces.insert(entry.path().filename().string());
  }
  EXPECT_THAT(traces, ::testing::ElementsAre("iteration_2", "iteration_4"));
  for (const std::string& trace : traces) {
    EXPECT_TRUE(std::filesystem::exists(folder_.file("profile_traces/" + trace + "/rank0_trace.json"))) << trace;
  }
}

}  // namespace
}  // namespace qwen3::testing
