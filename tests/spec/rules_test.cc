#include "spec/rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace qwen3::spec {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::Not;
constexpr auto kSelective = ActivationCheckpoint::Mode::kSelective;

RunSpec valid_run() {
  RunSpec run;
  run.model = *find_flavor("debugmodel");
  run.lr_schedule.warmup_steps = 20;
  run.lr_schedule.total_steps = 400;
  run.lr_schedule.decay_steps = 120;
  run.steps = 400;
  run.data.local_batch_size = 2;
  run.data.seq_len = 256;
  run.validation.data = run.data;
  run.mesh.degrees = {1, 1, 2, 1, 1};
  run.global_batch_size = 4;
  return run;
}

std::vector<std::string> fields(const RunSpec& run) {
  std::vector<std::string> names;
  for (const Violation& violation : check_rules(run)) names.push_back(violation.field);
  return names;
}

TEST(Rules, AValidRunBreaksNone) { EXPECT_THAT(fields(valid_run()), IsEmpty()); }

TEST(Rules, EveryBrokenRuleIsReportedAtOnce) {
  RunSpec run = valid_run();
  run.optimizer.lr = -1;
  run.data.seq_len = 8192;
  run.validation.data = run.data;  // by default it follows, so it is not a second mistake
  run.log_freq = 0;
  EXPECT_THAT(fields(run), ElementsAre("optimizer.lr", "training.seq_len", "metrics.log_freq"));
}

// One broken field at a time, each with the field it must be reported under.
TEST(Rules, EachRuleNamesItsField) {
  const double nan = std::nan("");
  const std::pair<const char*, std::function<void(RunSpec&)>> cases[] = {
      {"model.vocab_size", [](RunSpec& r) { r.model.vocab = -1; }},
      {"moe.load_balance_coeff", [](RunSpec& r) { r.moe.load_balance_coeff = -1e-3; }},
      {"moe.aux_loss_coeff", [=](RunSpec& r) { r.moe.aux_loss_coeff = nan; }},
      {"moe.aux_loss_coeff", [](RunSpec& r) { r.moe.aux_loss_coeff = 1e-3; }},  // of a dense model
      {"debug.moe_force_load_balance", [](RunSpec& r) { r.moe.force_load_balance = true; }},
      {"activation_checkpoint.memory_budget", [=](RunSpec& r) { r.activation_checkpoint.memory_budget = nan; }},
      {"activation_checkpoint.memory_budget", [](RunSpec& r) { r.activation_checkpoint.memory_budget = 1.01; }},
      {"activation_checkpoint.selective_ac_option",
       [](RunSpec& r) { r.activation_checkpoint = {.mode = kSelective, .every_nth_block = 0}; }},
      {"activation_checkpoint.selective_ac_option",
       [](RunSpec& r) { r.activation_checkpoint = {.mode = kSelective, .every_nth_block = 9}; }},
      {"activation_checkpoint.selective_ac_option",  // a mixture of experts has it, debugmodel not
       [](RunSpec& r) { r.activation_checkpoint = {.mode = kSelective, .every_nth_block = {}, .kept = {"router"}}; }},
      {"optimizer.lr", [=](RunSpec& r) { r.optimizer.lr = nan; }},
      {"optimizer.beta1", [](RunSpec& r) { r.optimizer.beta1 = 1; }},
      {"optimizer.beta2", [=](RunSpec& r) { r.optimizer.beta2 = nan; }},
      {"optimizer.eps", [](RunSpec& r) { r.optimizer.eps = 0; }},
      {"optimizer.weight_decay", [](RunSpec& r) { r.optimizer.weight_decay = -0.1; }},
      {"optimizer.no_decay", [](RunSpec& r) { r.optimizer.no_decay = {""}; }},
      {"lr_scheduler.min_lr_factor", [](RunSpec& r) { r.lr_schedule.min_factor = 1.5; }},
      {"training.steps", [](RunSpec& r) { r.steps = r.lr_schedule.total_steps = 0; }},
      {"lr_scheduler.total_steps", [](RunSpec& r) { r.lr_schedule.total_steps = 399; }},
      {"lr_scheduler.warmup_steps", [](RunSpec& r) { r.lr_schedule.warmup_steps = 401; }},
      {"lr_scheduler.decay_ratio", [](RunSpec& r) { r.lr_schedule.decay_steps = 381; }},
      {"parallelism.data_parallel_replicate_degree", [](RunSpec& r) { r.mesh.degrees[1] = 0; }},
      {"parallelism.data_parallel_shard_degree", [](RunSpec& r) { r.mesh.degrees[2] = -2; }},
      {"parallelism.tensor_parallel_degree", [](RunSpec& r) { r.mesh.degrees[4] = 0; }},
      {"parallelism.pipeline_parallel_degree", [](RunSpec& r) { r.mesh.degrees[0] = 2; }},
      {"parallelism.context_parallel_degree", [](RunSpec& r) { r.mesh.degrees[3] = 2; }},
      {"training.seq_len", [](RunSpec& r) { r.data.seq_len = 0; }},
      {"training.max_norm", [](RunSpec& r) { r.max_norm = -1; }},
      {"training.local_batch_size", [](RunSpec& r) { r.data.local_batch_size = int64_t{1} << 62; }},
      {"training.global_batch_size", [](RunSpec& r) { r.global_batch_size = 6; }},
      {"validation.seq_len", [](RunSpec& r) { r.validation.data.seq_len = 4097; }},
      {"validation.local_batch_size", [](RunSpec& r) { r.validation.data.local_batch_size = 0; }},
      {"validation.freq", [](RunSpec& r) { r.validation.freq = 0; }},
      {"validation.steps", [](RunSpec& r) { r.validation.steps = 0; }},
      {"validation.split", [](RunSpec& r) { r.validation.split = 0.6; }},
      {"checkpoint.interval", [](RunSpec& r) { r.checkpoint.interval = 0; }},
      {"metrics.log_freq", [](RunSpec& r) { r.log_freq = -1; }},
      {"profiling.profile_freq", [](RunSpec& r) { r.profiling.freq = 0; }},
      {"profiling.profiler_active", [](RunSpec& r) { r.profiling.active = 11; }},
      {"profiling.save_traces_folder", [](RunSpec& r) { r.profiling.folder = "../elsewhere"; }},
      {"profiling.save_traces_folder", [](RunSpec& r) { r.profiling.folder = "step-3.attempt-1"; }},
      {"metrics.peak_flops", [](RunSpec& r) { r.peak_flops = -1; }},
      {"debug.state_digest_freq", [](RunSpec& r) { r.state_digest_freq = -1; }},
      {"debug.step_delay_ms", [](RunSpec& r) { r.step_delay_ms = -1; }},
      {"resources.threads_per_rank", [](RunSpec& r) { r.threads_per_rank = -1; }},
  };
  for (const auto& [field, break_rule] : cases) {
    RunSpec run = valid_run();
    break_rule(run);
    EXPECT_THAT(fields(run), ElementsAre(field));
  }
}

std::vector<std::string> sentences(const RunSpec& run) {
  std::vector<std::string> all;
  for (const Violation& violation : check_rules(run)) all.push_back(violation.message);
  return all;
}

TEST(Rules, ExpertParallelismDividesTheExpertsAndTheRanksThatItBorrows) {
  RunSpec run = valid_run();
  run.model = *find_flavor("debugmodel_moe");
  run.mesh.degrees = {1, 1, 4, 1, 1};
  run.mesh.ep = 3;
  run.global_batch_size = 8;
  EXPECT_THAT(sentences(run), Contains("parallelism.expert_parallel_degree is 3; it must divide the 64 experts of "
                                       "model.flavor \"debugmodel_moe\""));
  EXPECT_THAT(sentences(run),
              Contains("parallelism.expert_parallel_degree is 3; it must divide data_parallel_shard_degree 4 * "
                       "context_parallel_degree 1 * tensor_parallel_degree 1 = 4"));
  run.mesh.ep = 4;
  EXPECT_THAT(sentences(run), Not(Contains(HasSubstr("must divide"))));
  run.mesh.ep = 0;
  EXPECT_THAT(fields(run), ElementsAre("parallelism.expert_parallel_degree"));
  run.mesh.ep = 2;
  run.model = *find_flavor("debugmodel");
  EXPECT_THAT(sentences(run),
              ElementsAre("parallelism.expert_parallel_degree is 2, but model.flavor \"debugmodel\" has "
                          "no experts; it must be 1"));
}

TEST(Rules, OrderedModeNeedsAPowerOfTwoOfExpertRanks) {
  RunSpec run = valid_run();
  run.ordered = true;
  run.model = *find_flavor("debugmodel_moe");
  run.mesh.ep = 3;
  EXPECT_THAT(sentences(run),
              Contains("parallelism.expert_parallel_degree is 3, but debug.ordered needs a power of two"));
  run.mesh.ep = 2;
  EXPECT_THAT(fields(run), Not(Contains("parallelism.expert_parallel_degree")));
  run.model.dim = 24;
  EXPECT_THAT(sentences(run),
              Contains("debug.ordered with expert_parallel_degree 2 needs a model whose hidden size and "
                       "experts' hidden size are multiples of 16; they are 24 and " +
                       std::to_string(run.model.expert_hidden)));
}

// debugmodel: 16 heads and 8 key-value heads, 3072 hidden features, 2048 words.
RunSpec tensor_parallel_run(int64_t tp) {
  RunSpec run = valid_run();
  run.mesh.degrees[4] = tp;
  return run;
}

TEST(Rules, TensorParallelismDividesHeadsAndHiddenFeatures) {
  EXPECT_THAT(
      sentences(tensor_parallel_run(5)),
      IsSupersetOf({"parallelism.tensor_parallel_degree is 5; it must divide the 16 attention heads of model.flavor "
                    "\"debugmodel\"",
                    "parallelism.tensor_parallel_degree is 5; it must divide the 8 key-value heads of model.flavor "
                    "\"debugmodel\"",
                    "parallelism.tensor_parallel_degree is 5; it must divide the 3072 hidden features of the "
                    "feed-forward layer of model.flavor \"debugmodel\""}));
  EXPECT_THAT(sentences(tensor_parallel_run(4)), Not(Contains(HasSubstr("must divide"))));
}

TEST(Rules, TensorParallelismDividesTheExpertsHiddenFeaturesUnlessTheExpertsAreDivided) {
  RunSpec run = tensor_parallel_run(4);
  run.model.experts = 8, run.model.experts_per_token = 2, run.model.expert_hidden = 770, run.model.ffn_hidden = 0;
  EXPECT_THAT(sentences(run),
              Contains("parallelism.tensor_parallel_degree is 4; it must divide the 770 hidden features "
                       "of an expert of model.flavor \"debugmodel\""));
  run.mesh.ep = 4;
  EXPECT_THAT(sentences(run), Not(Contains(HasSubstr("must divide"))));
}

TEST(Rules, SequenceParallelismDividesTheSequence) {
  RunSpec run = tensor_parallel_run(4);
  run.data.seq_len = 250;
  run.validation.data.seq_len = 254;
  EXPECT_THAT(
      sentences(run),
      IsSupersetOf({"training.seq_len is 250; it must be a multiple of tensor_parallel_degree 4, over whose ranks "
                    "enable_sequence_parallel divides each sequence",
                    "validation.seq_len is 254; it must be a multiple of tensor_parallel_degree 4, over whose ranks "
                    "enable_sequence_parallel divides each sequence"}));
  run.sequence_parallel = false;
  EXPECT_THAT(sentences(run), Not(Contains(HasSubstr("seq_len"))));
}

TEST(Rules, EveryTensorParallelRankHasARowOfTheVocabulary) {
  RunSpec run = tensor_parallel_run(4);
  run.model.vocab = 9;  // 3, 3, 3 and none
  EXPECT_THAT(sentences(run),
              Contains("parallelism.tensor_parallel_degree is 4, which leaves a rank without any of the "
                       "9 rows of the vocabulary, 3 a rank"));
  run.model.vocab = 10;
  EXPECT_THAT(sentences(run), Not(Contains(HasSubstr("vocabulary"))));
}

TEST(Rules, AsyncTensorParallelismNeedsSequenceParallelism) {
  RunSpec run = valid_run();
  run.async_tensor_parallel = true;
  EXPECT_THAT(fields(run), IsEmpty());
  run.sequence_parallel = false;
  EXPECT_THAT(fields(run), ElementsAre("parallelism.enable_async_tensor_parallel"));
}

TEST(Rules, OrderedModeNeedsFloat32OneThreadAndPowersOfTwo) {
  RunSpec run = valid_run();
  run.ordered = true;
  run.threads_per_rank = 1;
  EXPECT_THAT(fields(run), IsEmpty());

  run.precision = Precision::kBfloat16;
  run.threads_per_rank = 2;
  run.mesh.degrees = {1, 1, 3, 1, 1};
  run.global_batch_size = 6;  // three microbatches of two sequences, but only because there are three ranks
  EXPECT_THAT(fields(run), ElementsAre("training.mixed_precision_param", "resources.threads_per_rank",
                                       "parallelism.data_parallel_shard_degree"));
}

TEST(Rules, OrderedModeNeedsGradientsThatTravelInFloat32) {
  RunSpec run = valid_run();
  run.reduce_in_bfloat16 = true;
  EXPECT_THAT(fields(run), IsEmpty());
  run.ordered = true;
  EXPECT_THAT(sentences(run), ElementsAre("debug.ordered needs gradients in float32: set "
                                          "training.mixed_precision_reduce to \"float32\""));
  EXPECT_THAT(fields(run), ElementsAre("training.mixed_precision_reduce"));
}

TEST(Rules, OrderedModeWithExpertParallelismAddsGradientsAfterEveryMicrobatch) {
  RunSpec run = valid_run();
  run.model = *find_flavor("debugmodel_moe");
  run.ordered = true;
  run.reduce_once = true;
  EXPECT_THAT(fields(run), Not(Contains("parallelism.fsdp_reduce")));
  run.mesh.ep = 2;
  EXPECT_THAT(sentences(run),
              Contains("debug.ordered with expert_parallel_degree 2 needs gradients to be added after every "
                       "microbatch: set parallelism.fsdp_reduce to \"microbatch\""));
  EXPECT_THAT(fields(run), Contains("parallelism.fsdp_reduce"));
  run.reduce_once = false;
  EXPECT_THAT(fields(run), Not(Contains("parallelism.fsdp_reduce")));
  run.reduce_once = true, run.ordered = false;
  EXPECT_THAT(fields(run), Not(Contains("parallelism.fsdp_reduce")));
}

TEST(Rules, OrderedModeNeedsAPowerOfTwoOfMicrobatches) {
  RunSpec run = valid_run();
  run.ordered = true;
  run.global_batch_size = 12;  // six microbatches of two sequences on two ranks
  EXPECT_THAT(fields(run), ElementsAre("training.global_batch_size"));
}

TEST(Rules, ASentenceNamesWhatItGotAndWhatItWants) {
  RunSpec run = valid_run();
  run.global_batch_size = 6;
  ASSERT_EQ(check_rules(run).size(), 1u);
  EXPECT_EQ(check_rules(run)[0].message,
            "training.global_batch_size is 6; it must be a positive multiple of local_batch_size 2 * 2 data-parallel "
            "ranks = 4");
}

}  // namespace
}  // namespace qwen3::spec
