// An evaluation says the same on every mesh, and what the plain model on one device says.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include "checkpoint/hf/names.h"
#include "tests/ranks/gang.h"
#include "tests/ranks/tiny_folder.h"
#include "tests/ranks/tiny_run.h"
#include "tests/temporary_folder.h"
#include "worker/rank/batch_source.h"
#include "worker/rank/wire.h"

namespace qwen3::testing {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kSequences = 9, kLength = 24, kBatch = 2;  // five microbatches, the last one half empty

class Evaluate : public ::testing::Test {
 protected:
  void SetUp() override {
    environment_.data_root = folder_ + "/data";
    assignment_.set_job("tenants/default/operations/one");
    assignment_.set_attempt(1);
    assignment_.set_advertise_address("127.0.0.1");
    assignment_.mutable_spec()->mutable_resources()->set_threads_per_rank(1);
    spec().set_tokens_file(folder_ + "/tokens.safetensors");
    spec().set_local_batch_size(kBatch);
    spec().mutable_model()->set_hf(folder_ + "/hf");
    spec().set_output_folder(folder_ + "/out");
  }

  v1::EvaluationSpec& spec() { return *assignment_.mutable_evaluation(); }

  void write_scene(const spec::ModelShape& shape, int64_t length = kLength) {
    write_hf_folder(folder_ + "/hf", shape);
    write_tokens(folder_ + "/tokens.safetensors", kSequences, length, shape.vocab);
  }

  GangOutcome run(int64_t replicate, int64_t shard, int64_t tp = 1, int64_t ep = 1) {
    assignment_.set_world_size(static_cast<int32_t>(replicate * shard * tp));
    v1::JobSpec& job = *assignment_.mutable_spec();
    job.mutable_parallelism()->set_tensor_parallel_degree(tp);
    job.mutable_parallelism()->set_expert_parallel_degree(ep);
    job.mutable_parallelism()->set_enable_async_tensor_parallel(tp > 1);
    job.mutable_parallelism()->set_data_parallel_replicate_degree(replicate);
    job.mutable_parallelism()->set_data_parallel_shard_degree(shard);
    job.mutable_resources()->set_slots(replicate * shard * tp);
    return perform_as_threads(assignment_, environment_);
  }

  std::string out(const char* what) const { return folder_ + "/out/" + what + ".safetensors"; }

  const tests::TemporaryFolder temporary_{"evaluate"};
  const std::string folder_ = temporary_.path();
  spec::config::Environment environment_;
  internal::v1::RankAssignment assignment_;
};

class EvaluateShapes : public Evaluate, public ::testing::WithParamInterface<spec::ModelShape> {};

// Loss, logits and gradients bit by bit: the microbatches are computed alone and added in one order on every mesh.
TEST_P(EvaluateShapes, EveryMeshGivesTheSameBits) {
  write_scene(GetParam());
  spec().set_write_logits(true);
  spec().set_write_gradients(true);
  const GangOutcome one = run(1, 1);
  ASSERT_EQ(one.error, "");
  const std::string logits = file_bytes(out("logits")), gradients = file_bytes(out("gradients"));
  EXPECT_EQ(one.result.evaluation().logits_file(), out("logits"));
  EXPECT_EQ(one.result.evaluation().gradients_file(), out("gradients"));
  for (const auto& [replicate, shard] : {std::pair{1, 2}, {1, 4}, {2, 1}, {2, 2}}) {
    SCOPED_TRACE(::testing::Message() << replicate << " x " << shard);
    std::filesystem::remove_all(folder_ + "/out");
    const GangOutcome many = run(replicate, shard);
    ASSERT_EQ(many.error, "");
    EXPECT_EQ(many.result.evaluation().loss_hex(), one.result.evaluation().loss_hex());
    EXPECT_EQ(many.result.evaluation().tokens(), one.result.evaluation().tokens());
    EXPECT_TRUE(file_bytes(out("logits")) == logits) << "logits differ";
    EXPECT_TRUE(file_bytes(out("gradients")) == gradients) << "gradients differ";
  }
}

// Nine tokens cannot be cut into two pieces of a sequence: tensor parallelism then does without, also when the job asks
// for its async form.
TEST_P(EvaluateShapes, TensorAndExpertParallelismGiveTheSameLossInFloat64) {
  spec().set_dtype("float64");
  for (const int64_t length : {kLength, int64_t{9}}) {
    write_scene(GetParam(), length);
    const GangOutcome one = run(1, 1);
    ASSERT_EQ(one.error, "");
    for (const auto& [shard, tp, ep] : {std::tuple{1, 2, 1}, {2, 2, 2}, {2, 1, 2}}) {
      if (GetParam().experts == 0 && ep > 1) continue;
      SCOPED_TRACE(::testing::Message() << length << " tokens, shard " << shard << " tp " << tp << " ep " << ep);
      const GangOutcome many = run(1, shard, tp, ep);
      ASSERT_EQ(many.error, "");
      EXPECT_NEAR(many.result.evaluation().loss(), one.result.evaluation().loss(), 1e-12);
    }
  }
}

// In float64, against autograd of the mean loss over all microbatches in one graph.
TEST_P(EvaluateShapes, EqualsThePlainModel) {
  const spec::ModelShape& shape = GetParam();
  write_scene(shape);
  spec().set_dtype("float64");
  spec().set_write_logits(true);
  spec().set_write_gradients(true);
  const GangOutcome got = run(1, 2);
  ASSERT_EQ(got.error, "");

  PlainModel plain(shape, at::kDouble);
  const SyntheticText text(kSequences, kLength, shape.vocab);
  const at::Tensor logits = read_tensor(out("logits"), "logits");
  ASSERT_EQ(logits.sizes(), (std::vector<int64_t>{kSequences, kLength, shape.vocab}));
  at::Tensor sum = at::zeros({}, at::kDouble);
  int64_t valid = 0;
  for (int64_t i = 0; i < kSequences; ++i) {
    const model::Microbatch batch = rank::consecutive(text, i, 1);
    const at::Tensor expected = plain.model.logits(batch);
    EXPECT_TRUE(at::allclose(logits.narrow(0, i, 1), expected, 1e-12, 1e-12)) << "sequence " << i;
    const at::Tensor picked = at::log_softmax(expected, -1).flatten(0, 1);
    const at::Tensor labels = batch.labels.flatten();
    const at::Tensor rows = labels.ne(-100).nonzero().flatten();
    sum = sum - picked.index_select(0, rows).gather(1, labels.index_select(0, rows).unsqueeze(1)).sum();
    valid += rows.numel();
  }
  const at::Tensor loss = sum / valid;
  loss.backward();
  const v1::EvaluationResult& result = got.result.evaluation();
  EXPECT_EQ(result.tokens(), valid);
  EXPECT_NEAR(result.loss(), loss.item<double>(), 1e-12);
  EXPECT_EQ(result.loss_hex(), rank::hex(result.loss()));
  EXPECT_DOUBLE_EQ(result.perplexity(), std::exp(result.loss()));

  std::map<std::string, at::Tensor> expected;  // a tied weight's uses are added
  for (const auto& unit : plain.parameters.units()) {
    for (const model::Parameter* parameter : unit.parameters) {
      at::Tensor& total = expected[parameter->tensor];
      total = total.defined() ? total + parameter->weight.grad() : parameter->weight.grad();
    }
  }
  for (const checkpoint::HfTensor& tensor : checkpoint::hf_tensors(shape)) {
    const at::Tensor want =
        expected.at(tensor.parameter).narrow(0, tensor.row_begin, tensor.rows).reshape(tensor.shape);
    const at::Tensor have = read_tensor(out("gradients"), tensor.name);
    EXPECT_LE((have - want).norm().item<double>(), 1e-12 * want.norm().item<double>() + 1e-15) << tensor.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, EvaluateShapes,
                         ::testing::Values(tiny_shape(/*tied=*/true), tiny_shape(/*tied=*/false), tiny_moe_shape()),
                         [](const auto& info) {
                           return std::string(info.param.experts > 0 ? "Moe" : info.param.tied ? "Tied" : "Untied");
                         });

TEST_F(Evaluate, TheLossDoesNotDependOnWhatIsWritten) {
  write_scene(tiny_shape(/*tied=*/true));
  const std::string alone = run(1, 2).result.evaluation().loss_hex();
  spec().set_write_logits(true);
  spec().set_write_gradients(true);
  EXPECT_EQ(run(1, 2).result.evaluation().loss_hex(), alone);
  EXPECT_NE(alone, "");
}

TEST_F(Evaluate, Bfloat16IsNearFloat32AndNotEqual) {
  write_scene(tiny_shape(/*tied=*/true));
  const double wide = run(1, 1).result.evaluation().loss();
  spec().set_dtype("bfloat16");
  const double narrow = run(1, 2).result.evaluation().loss();
  EXPECT_NE(narrow, wide);
  EXPECT_NEAR(narrow, wide, 1e-2);  // 8 bits of mantissa on a loss of about log 101
}

TEST_F(Evaluate, ReportsItsProgressOnceToTheEnd) {
  write_scene(tiny_shape(/*tied=*/true));
  const GangOutcome outcome = run(1, 2);
  ASSERT_FALSE(outcome.progress.empty());
  EXPECT_EQ(outcome.progress.back(), "5 of 5 microbatches");
}

// What an earlier attempt left half-written is replaced; a finished file is only ever whole.
TEST_F(Evaluate, AnUnfinishedFileOfAnEarlierAttemptIsReplaced) {
  write_scene(tiny_shape(/*tied=*/true));
  std::filesystem::create_directories(folder_ + "/out");
  { std::ofstream(out("logits") + ".partial-1-0") << "half"; }
  spec().set_write_logits(true);
  assignment_.set_attempt(2);
  ASSERT_EQ(run(1, 2).error, "");
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ + "/out"))
    names.push_back(entry.path().filename());
  EXPECT_THAT(names, ::testing::ElementsAre("logits.safetensors"));
}

TEST_F(Evaluate, WhatCannotBeEvaluatedIsRefusedWithItsReason) {
  write_scene(tiny_shape(/*tied=*/true));
  spec().set_dtype("float8");
  EXPECT_THAT(run(1, 1).error, HasSubstr("dtype is \"float8\", wanted"));
  spec().set_dtype("float32");
  spec().set_write_logits(true);
  spec().set_output_folder("out");
  EXPECT_THAT(run(1, 1).error, HasSubstr("output_folder is \"out\", wanted an absolute folder"));
  spec().set_write_logits(false);
  spec().mutable_model()->set_hf(folder_ + "/nothing");
  EXPECT_THAT(run(1, 1).error, HasSubstr(folder_ + "/nothing"));
  spec().mutable_model()->set_hf(folder_ + "/hf");
  write_tokens(folder_ + "/tokens.safetensors", 1, 65, 101);
  EXPECT_THAT(run(1, 1).error, HasSubstr("its sequences have 65 tokens, the model takes at most 64"));
}

}  // namespace
}  // namespace qwen3::testing
