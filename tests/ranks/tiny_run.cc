#include "tests/ranks/tiny_run.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <mutex>
#include <ostream>
#include <random>

#include "checkpoint/digest.h"
#include "tests/ranks/run_ranks.h"
#include "worker/rank/trainer.h"

namespace qwen3::testing {
namespace {

std::string hex(double value) {  // exact
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), "%a", value);
  return buffer;
}

// Adds this rank's shards to the digests of the whole state.
void add_digests(const parallel::ShardedModel& model, std::map<std::string, checkpoint::TensorDigest>& digests) {
  for (const parallel::ShardedTensor* tensor : model.tensors()) {
    for (const auto& [prefix, flat] :
         {std::pair{"model.", tensor->master}, {"exp_avg.", tensor->exp_avg}, {"exp_avg_sq.", tensor->exp_avg_sq}}) {
      checkpoint::TensorDigest& digest = digests[prefix + tensor->name];
      digest.shape = tensor->layout.shape;
      if (!tensor->owned) continue;
      digest.sum += checkpoint::digest_box({static_cast<const std::byte*>(flat.const_data_ptr()),
                                            static_cast<size_t>(tensor->numel()) * flat.element_size()},
                                           flat.element_size(), tensor->box, tensor->layout.shape);
    }
  }
}

// Buffers are whole on every rank, which must agree.
void add_buffers(const parallel::ShardedModel& model, std::map<std::string, checkpoint::TensorDigest>& digests) {
  for (const model::Buffer& buffer : model.buffers()) {
    checkpoint::TensorDigest& digest = digests[buffer.name];
    const auto sum =
        checkpoint::digest_slice({static_cast<const std::byte*>(buffer.value.const_data_ptr()), buffer.value.nbytes()},
                                 buffer.value.element_size(), /*first=*/0);
    if (!digest.shape.empty()) {
      EXPECT_EQ(digest.sum, sum) << buffer.name << " differs between ranks";
    }
    digest.shape = buffer.shape;
    digest.sum = sum;
  }
}

}  // namespace

data::Sample SyntheticText::at(int64_t index) const {
  std::mt19937_64 random(static_cast<uint64_t>(index) + 1);
  data::Sample sample;
  const int64_t boundary = index % 3 == 0 ? seq_len_ / 2 : seq_len_;  // where a second document starts
  for (int64_t s = 0; s < seq_len_; ++s) {
    sample.ids.push_back(static_cast<int64_t>(random() % static_cast<uint64_t>(vocab_)));
    sample.positions.push_back(s < boundary ? s : s - boundary);
  }
  for (int64_t s = 0; s < seq_len_; ++s) {
    const bool has_target = s + 1 < seq_len_ && s + 1 != boundary;
    sample.labels.push_back(has_target ? sample.ids[s + 1] : -100);
  }
  return sample;
}

std::shared_ptr<SyntheticText> text_of(const spec::RunSpec& run) {
  return std::make_shared<SyntheticText>(50, run.data.seq_len, run.model.vocab);
}

std::shared_ptr<TwoDocuments> two_documents_of(const spec::RunSpec& run) {
  return std::make_shared<TwoDocuments>(50, run.data.seq_len, run.model.vocab);
}

spec::RunSpec tiny_run(const spec::Mesh& mesh, bool tied) {
  spec::RunSpec run;
  run.model = {.flavor = "tiny",
               .dim = 48,
               .layers = 3,
               .heads = 4,
               .kv_heads = 2,
               .head_dim = 16,
               .ffn_hidden = 80,
               .vocab = 101,
               .max_seq_len = 64,
               .tied = tied};
  run.optimizer.lr = 1e-2;
  run.lr_schedule = {.warmup_steps = 2, .total_steps = 10, .decay_steps = 4};
  run.data = {.local_batch_size = 2, .seq_len = 24};
  run.global_batch_size = 16;
  run.mesh = mesh;
  run.microbatches_per_rank = 8 / mesh.data_parallel_size();
  run.steps = 10;
  run.seed = 7;
  run.ordered = true;
  return run;
}

spec::RunSpec tiny_moe_run(const spec::Mesh& mesh, const spec::MoeSpec& moe) {
  spec::RunSpec run = tiny_run(mesh, /*tied=*/false);
  run.model.ffn_hidden = 0;
  run.model.experts = 6;
  run.model.experts_per_token = 2;
  run.model.expert_hidden = 32;
  run.moe = moe;
  return run;
}

void PrintTo(const Outcome& outcome, std::ostream* out) {
  *out << "state " << outcome.state_digest << ", losses";
  for (const std::string& loss : outcome.losses) *out << ' ' << loss;
  *out << ", norms";
  for (const std::string& norm : outcome.norms) *out << ' ' << norm;
}

Outcome train(const spec::RunSpec& run, int64_t steps) {
  std::mutex mutex;
  Outcome outcome;
  std::map<std::string, checkpoint::TensorDigest> digests;
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& mesh) {
    data::Splits data{text_of(run), nullptr};
    rank::Trainer trainer(run, mesh, data);
    std::vector<std::string> losses, norms;
    for (int64_t step = 1; step <= steps; ++step) {
      const rank::StepMetrics metrics = trainer.step(step, {}).metrics;
      losses.push_back(hex(metrics.loss));
      if (metrics.experts) losses.push_back(hex(metrics.experts->auxiliary_loss));
      norms.push_back(hex(metrics.grad_norm));
    }
    const std::lock_guard lock(mutex);
    if (mesh.rank() == 0) outcome.losses = losses, outcome.norms = norms;
    if (mesh.axis(spec::Axis::kDpReplicate).index() == 0) add_digests(trainer.model(), digests);
    add_buffers(trainer.model(), digests);
  });
  outcome.state_digest = checkpoint::state_digest(digests);
  return outcome;
}

}  // namespace qwen3::testing
