#include "spec/config/job_spec.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <optional>

#include "tests/spec/stub_data_root.h"

namespace qwen3::spec::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class JobSpecTest : public testing::Test {
 protected:
  // A debugmodel job with its defaults.
  v1::JobSpec job(const std::function<void(v1::JobSpec&)>& set = [](v1::JobSpec&) {}) const {
    v1::JobSpec spec;
    spec.mutable_model()->set_flavor("debugmodel");
    set(spec);
    fill_defaults(spec);
    return spec;
  }
  std::vector<std::string> fields(const v1::JobSpec& spec) const {
    std::vector<std::string> names;
    for (const Violation& violation : check(spec, root_.environment())) names.push_back(violation.field);
    return names;
  }
  std::string message(const v1::JobSpec& spec) const {
    const std::vector<Violation> violations = check(spec, root_.environment());
    return violations.size() == 1 ? violations[0].message : "not one violation";
  }
  RunSpec run(const v1::JobSpec& spec) const { return run_spec_from_job(spec, root_.environment()); }

  StubDataRoot root_;
};

TEST_F(JobSpecTest, AFlavorAloneIsAJob) {
  const v1::JobSpec spec = job();
  EXPECT_THAT(fields(spec), IsEmpty());
  EXPECT_EQ(spec.training().steps(), 10000);
  EXPECT_EQ(spec.lr_scheduler().total_steps(), 10000);
  EXPECT_EQ(spec.parallelism().data_parallel_shard_degree(), 1);
  EXPECT_EQ(spec.training().global_batch_size(), 8);
  EXPECT_EQ(spec.validation().seq_len(), 2048);
}

TEST_F(JobSpecTest, DefaultsChangeNothingThatIsSetAndFillingTwiceIsFillingOnce) {
  v1::JobSpec spec = job([](v1::JobSpec& s) {
    s.mutable_optimizer()->set_weight_decay(0);
    s.mutable_checkpoint()->set_enable(false);
    s.mutable_resources()->set_slots(4);
  });
  EXPECT_EQ(spec.optimizer().weight_decay(), 0);
  EXPECT_FALSE(spec.checkpoint().enable());
  v1::JobSpec again = spec;
  fill_defaults(again);
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(spec, again));
}

TEST_F(JobSpecTest, TheShardAxisTakesTheSlotsThatOtherAxesLeave) {
  const RunSpec resolved = run(job([](v1::JobSpec& s) {
    s.mutable_resources()->set_slots(8);
    s.mutable_parallelism()->set_data_parallel_replicate_degree(2);
    s.mutable_parallelism()->set_data_parallel_shard_degree(-1);
  }));
  EXPECT_THAT(resolved.mesh.degrees, ElementsAre(1, 2, 4, 1, 1));
  EXPECT_EQ(resolved.global_batch_size, 8 * 8);
  EXPECT_EQ(resolved.microbatches_per_rank, 1);
}

TEST_F(JobSpecTest, ALargerGlobalBatchBecomesAccumulation) {
  const v1::JobSpec spec = job([](v1::JobSpec& s) {
    s.mutable_resources()->set_slots(2);
    s.mutable_training()->set_local_batch_size(2);
    s.mutable_training()->set_global_batch_size(32);
  });
  EXPECT_THAT(fields(spec), IsEmpty());
  EXPECT_EQ(run(spec).microbatches_per_rank, 8);  // 32 / (2 * 2 ranks)
}

TEST_F(JobSpecTest, AMeshThatDoesNotFillTheSlotsIsToldWithItsNumbers) {
  const v1::JobSpec spec = job([](v1::JobSpec& s) {
    s.mutable_resources()->set_slots(8);
    s.mutable_parallelism()->set_data_parallel_replicate_degree(3);
  });
  EXPECT_EQ(message(spec),
            "parallelism: dp_replicate 3 * dp_shard 2 * cp 1 * tp 1 * pp 1 = 6, but resources.slots is 8");
}

TEST_F(JobSpecTest, DecayIsARoundedShareOfTheScheduleOrAllAfterTheWarmUp) {
  const auto decay = [&](int64_t steps, std::optional<double> ratio) {
    return run(job([&](v1::JobSpec& s) {
             s.mutable_training()->set_steps(steps);
             s.mutable_lr_scheduler()->set_warmup_steps(2);
             if (ratio) s.mutable_lr_scheduler()->set_decay_ratio(*ratio);
           }))
        .lr_schedule.decay_steps;
  };
  EXPECT_EQ(decay(400, std::nullopt), 398);
  EXPECT_EQ(decay(400, 0.3), 120);
  EXPECT_EQ(decay(400, 0.0), 0);
  EXPECT_EQ(decay(25, 0.5), 12);  // 12.5: half to even, as torchtitan
  EXPECT_EQ(decay(27, 0.5), 14);  // 13.5
}

TEST_F(JobSpecTest, TheDefaultWarmUpFitsAShortRun) {
  EXPECT_EQ(job([](v1::JobSpec& s) { s.mutable_training()->set_steps(10); }).lr_scheduler().warmup_steps(), 10);
  EXPECT_EQ(job().lr_scheduler().warmup_steps(), 200);
}

TEST_F(JobSpecTest, AutoPrecisionFollowsTheDevicesExceptInOrderedMode) {
  EXPECT_EQ(run(job()).precision, Precision::kBfloat16);
  EXPECT_EQ(run_spec_from_job(job(), {.fast_bfloat16 = false, .data_root = root_.path()}).precision,
            Precision::kFloat32);
  const v1::JobSpec ordered = job([](v1::JobSpec& s) { s.mutable_debug()->set_ordered(true); });
  EXPECT_THAT(fields(ordered), IsEmpty());
  EXPECT_EQ(run(ordered).precision, Precision::kFloat32);
  EXPECT_EQ(run(ordered).threads_per_rank, 1);
}

TEST_F(JobSpecTest, OrderedModeRefusesBfloat16) {
  const v1::JobSpec spec = job([](v1::JobSpec& s) {
    s.mutable_debug()->set_ordered(true);
    s.mutable_training()->set_mixed_precision_param("bfloat16");
  });
  EXPECT_THAT(fields(spec), ElementsAre("training.mixed_precision_param"));
}

TEST_F(JobSpecTest, DataAndTokenizerComeFromSetUpUnlessNamed) {
  const RunSpec debug = run(job());
  EXPECT_EQ(debug.data.path, root_.path() + "/datasets/shakespeare");
  EXPECT_EQ(debug.data.tokenizer, root_.path() + "/tokenizers/qwen3-2048.tiktoken");
  EXPECT_EQ(debug.validation.data.path, "");  // the held-out part of the training text
  EXPECT_EQ(run(job([](v1::JobSpec& s) { s.mutable_model()->set_flavor("0.6B"); })).data.tokenizer,
            root_.path() + "/tokenizers/qwen3.tiktoken");
}

TEST_F(JobSpecTest, NamedPathsWin) {
  const std::string text = root_.file("mine/text.jsonl.gz");
  const std::string tokenizer = root_.file("assets/tokenizer.json");
  v1::JobSpec spec = job([&](v1::JobSpec& s) {
    s.mutable_training()->set_dataset_path(text);
    s.mutable_model()->set_hf_assets_path(root_.path() + "/assets");
  });
  EXPECT_THAT(fields(spec), IsEmpty());
  EXPECT_EQ(run(spec).data.path, text);
  EXPECT_EQ(run(spec).data.tokenizer, tokenizer);
  spec.mutable_model()->set_tokenizer_path(root_.path() + "/tokenizers/qwen3.tiktoken");
  EXPECT_EQ(run(spec).data.tokenizer, root_.path() + "/tokenizers/qwen3.tiktoken");
}

TEST_F(JobSpecTest, PathsAreMadeAbsoluteSeenFromTheFoldersUser) {
  v1::JobSpec spec;
  spec.mutable_training()->set_dataset_path("data/../text");
  spec.mutable_model()->set_hf_assets_path("/abs");
  spec.mutable_checkpoint()->set_initial_load_path("tenants/default/jobs/a/checkpoints/b");
  make_paths_absolute(spec, "/home/user");
  EXPECT_EQ(spec.training().dataset_path(), "/home/user/text");
  EXPECT_EQ(spec.model().hf_assets_path(), "/abs");
  EXPECT_EQ(spec.checkpoint().initial_load_path(), "tenants/default/jobs/a/checkpoints/b");
  EXPECT_FALSE(spec.has_validation());
}

TEST_F(JobSpecTest, WithoutSetUpsFolderTheUserMustNameDataAndTokenizer) {
  std::vector<std::string> names;
  for (const Violation& violation : check(job(), Environment{})) names.push_back(violation.field);
  EXPECT_THAT(names, ElementsAre("training.dataset", "model.tokenizer_path"));
}

TEST_F(JobSpecTest, MissingFilesAreNamed) {
  const v1::JobSpec spec = job([&](v1::JobSpec& s) {
    s.mutable_training()->set_dataset_path("/no/such/text");
    s.mutable_model()->set_tokenizer_path("/no/such/tokenizer.json");
  });
  EXPECT_THAT(fields(spec), ElementsAre("training.dataset_path", "model.tokenizer_path"));
  EXPECT_THAT(check(spec, root_.environment())[0].message, HasSubstr("/no/such/text does not exist"));
}

TEST_F(JobSpecTest, ASpecSentWithoutDefaultsOrWithHostileNumbersNeverCrashesTheCheck) {
  EXPECT_FALSE(check(v1::JobSpec(), root_.environment()).empty());
  v1::JobSpec spec = job([](v1::JobSpec& s) {
    s.mutable_training()->set_local_batch_size(INT64_MAX);
    s.mutable_training()->set_global_batch_size(INT64_MIN);
    s.mutable_training()->set_steps(INT64_MAX);
    s.mutable_lr_scheduler()->set_warmup_steps(INT64_MIN);
    s.mutable_lr_scheduler()->set_decay_ratio(1e300);
    s.mutable_parallelism()->set_data_parallel_replicate_degree(INT64_MAX);
    s.mutable_parallelism()->set_tensor_parallel_degree(INT64_MAX);
    s.mutable_resources()->set_slots(INT64_MAX);
  });
  EXPECT_FALSE(check(spec, root_.environment()).empty());
}

// Each value is the one that is not the default, of the job as of RunSpec.
TEST_F(JobSpecTest, EveryKeyOfCommunicationReachesTheRun) {
  struct Key {
    const char* name;
    std::function<void(v1::JobSpec&)> set;
    bool RunSpec::*field;
    bool becomes;
  };
  const Key keys[] = {
      {"fsdp_reduce", [](v1::JobSpec& s) { s.mutable_parallelism()->set_fsdp_reduce("step"); }, &RunSpec::reduce_once,
       true},
      {"mixed_precision_reduce", [](v1::JobSpec& s) { s.mutable_training()->set_mixed_precision_reduce("bfloat16"); },
       &RunSpec::reduce_in_bfloat16, true},
      {"fsdp_reshard_after_forward",
       [](v1::JobSpec& s) { s.mutable_parallelism()->set_fsdp_reshard_after_forward("never"); },
       &RunSpec::reshard_after_forward, false},
      {"enable_sequence_parallel", [](v1::JobSpec& s) { s.mutable_parallelism()->set_enable_sequence_parallel(false); },
       &RunSpec::sequence_parallel, false},
      {"disable_loss_parallel", [](v1::JobSpec& s) { s.mutable_parallelism()->set_disable_loss_parallel(true); },
       &RunSpec::loss_parallel, false},
      {"enable_async_tensor_parallel",
       [](v1::JobSpec& s) { s.mutable_parallelism()->set_enable_async_tensor_parallel(true); },
       &RunSpec::async_tensor_parallel, true},
  };
  for (const Key& key : keys) {
    EXPECT_EQ(run(job()).*key.field, !key.becomes) << key.name;
    EXPECT_EQ(run(job(key.set)).*key.field, key.becomes) << key.name;
  }
}

TEST_F(JobSpecTest, GatheredWeightsStayOnlyWithNever) {
  for (const char* value : {"always", "default", "never"}) {
    const RunSpec resolved =
        run(job([&](v1::JobSpec& s) { s.mutable_parallelism()->set_fsdp_reshard_after_forward(value); }));
    EXPECT_EQ(resolved.reshard_after_forward, value != std::string("never")) << value;
  }
}

TEST_F(JobSpecTest, ActivationCheckpointingReachesTheRun) {
  using Mode = ActivationCheckpoint::Mode;
  struct Case {
    const char *flavor, *mode, *option;
    Mode becomes;
    std::optional<int64_t> every_nth_block;
    std::vector<std::string> kept;
  };
  const Case cases[] = {
      {"debugmodel", "none", "2", Mode::kNone, 2, {}},
      {"debugmodel", "full", "2", Mode::kFull, 2, {}},
      {"debugmodel", "memory_budget", "2", Mode::kMemoryBudget, 2, {}},
      {"debugmodel", "selective", "3", Mode::kSelective, 3, {}},
      {"debugmodel", "selective", "gate_up, qkv", Mode::kSelective, std::nullopt, {"gate_up", "qkv"}},
      {"debugmodel", "selective", "op", Mode::kSelective, std::nullopt, {"attention", "gate_up"}},
      {"debugmodel_moe", "selective", "op", Mode::kSelective, std::nullopt, {"attention", "expert_gate_up"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(std::string(c.flavor) + " " + c.mode + " " + c.option);
    const v1::JobSpec spec = job([&](v1::JobSpec& s) {
      s.mutable_model()->set_flavor(c.flavor);
      s.mutable_activation_checkpoint()->set_mode(c.mode);
      s.mutable_activation_checkpoint()->set_selective_ac_option(c.option);
      s.mutable_activation_checkpoint()->set_memory_budget(0.25);
    });
    EXPECT_THAT(fields(spec), IsEmpty());
    const ActivationCheckpoint got = run(spec).activation_checkpoint;
    EXPECT_EQ(got.mode, c.becomes);
    EXPECT_EQ(got.every_nth_block, c.every_nth_block);
    EXPECT_EQ(got.kept, c.kept);
    EXPECT_EQ(got.memory_budget, 0.25);
  }
}

TEST_F(JobSpecTest, AnotherVocabularySizeReachesTheModel) {
  EXPECT_EQ(run(job([](v1::JobSpec& s) { s.mutable_model()->set_vocab_size(151936); })).model.vocab, 151936);
}

// Unlike values, so that two keys that change places show.
TEST_F(JobSpecTest, OptimizerBalanceAndProfilingReachTheRun) {
  const RunSpec resolved = run(job([](v1::JobSpec& s) {
    s.mutable_model()->set_flavor("debugmodel_moe");
    v1::OptimizerSection& optimizer = *s.mutable_optimizer();
    optimizer.set_lr(0.5);
    optimizer.set_beta1(0.25);
    optimizer.set_beta2(0.75);
    optimizer.set_eps(0.125);
    optimizer.set_weight_decay(0.0625);
    optimizer.add_no_decay("*norm.weight");
    optimizer.add_no_decay("tok_embeddings.weight");
    s.mutable_debug()->set_moe_force_load_balance(true);
    v1::ProfilingSection& profiling = *s.mutable_profiling();
    profiling.set_enable_profiling(true);
    profiling.set_save_traces_folder("traces_of_steps");
    profiling.set_profile_freq(20);
    profiling.set_profiler_active(3);
  }));
  EXPECT_EQ(resolved.optimizer.lr, 0.5);
  EXPECT_EQ(resolved.optimizer.beta1, 0.25);
  EXPECT_EQ(resolved.optimizer.beta2, 0.75);
  EXPECT_EQ(resolved.optimizer.eps, 0.125);
  EXPECT_EQ(resolved.optimizer.weight_decay, 0.0625);
  EXPECT_THAT(resolved.optimizer.no_decay, ElementsAre("*norm.weight", "tok_embeddings.weight"));
  EXPECT_TRUE(resolved.moe.force_load_balance);
  EXPECT_FALSE(run(job()).moe.force_load_balance);
  EXPECT_TRUE(resolved.profiling.enable);
  EXPECT_EQ(resolved.profiling.folder, "traces_of_steps");
  EXPECT_EQ(resolved.profiling.freq, 20);
  EXPECT_EQ(resolved.profiling.active, 3);
}

}  // namespace
}  // namespace qwen3::spec::config
