#include "worker/rank/batch_source.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "spec/layout.h"

namespace qwen3::rank {
namespace {

constexpr int64_t kIgnoreIndex = -100;

model::Microbatch stack(const std::vector<data::Sample>& samples) {
  const auto rows = static_cast<int64_t>(samples.size());
  const auto length = static_cast<int64_t>(samples.front().ids.size());
  model::Microbatch batch;
  for (at::Tensor* field : {&batch.ids, &batch.labels, &batch.positions}) *field = at::empty({rows, length}, at::kLong);
  const auto copy_row = [&](const std::vector<int64_t>& from, at::Tensor& to, int64_t row) {
    std::copy(from.begin(), from.end(), to.mutable_data_ptr<int64_t>() + row * length);
  };
  for (int64_t row = 0; row < rows; ++row) {
    copy_row(samples[row].ids, batch.ids, row);
    copy_row(samples[row].labels, batch.labels, row);
    copy_row(samples[row].positions, batch.positions, row);
  }
  return batch;
}

}  // namespace

BatchSource::BatchSource(std::shared_ptr<const data::Dataset> train, const spec::RunSpec& run)
    : train_(std::move(train)),
      local_batch_size_(run.data.local_batch_size),
      global_batch_size_(run.global_batch_size),
      seed_(run.seed) {}

model::Microbatch BatchSource::training(int64_t step, int64_t m) const {
  std::vector<data::Sample> samples;
  for (int64_t i = 0; i < local_batch_size_; ++i) {
    samples.push_back(train_->at(
        data::shuffled_index(seed_, train_->sequences(), global_batch_size_, step, m * local_batch_size_ + i)));
  }
  return stack(samples);
}

model::Microbatch consecutive(const data::Dataset& dataset, int64_t first, int64_t count) {
  std::vector<data::Sample> samples;
  for (int64_t i = first; i < first + count; ++i) {
    const bool exists = i < dataset.sequences();
    samples.push_back(dataset.at(exists ? i : 0));
    if (!exists) std::fill(samples.back().labels.begin(), samples.back().labels.end(), kIgnoreIndex);
  }
  return stack(samples);
}

int64_t microbatch_of(const spec::Mesh& mesh, int64_t rank, int64_t k, int64_t per_rank, bool reduce_once) {
  return spec::global_microbatch(spec::index_on(mesh, rank, spec::LayoutAxis::kReplicate),
                                 spec::index_on(mesh, rank, spec::LayoutAxis::kFsdp), k, per_rank,
                                 mesh.degree(spec::Axis::kDpShard), reduce_once);
}

bool speaks_for_microbatches(const spec::Mesh& mesh, int64_t rank) {
  return spec::index_on(mesh, rank, spec::LayoutAxis::kTp) == 0;
}

std::vector<double> in_microbatch_order(const at::Tensor& by_rank, const spec::Mesh& mesh, bool reduce_once) {
  const auto values = by_rank.accessor<double, 2>();
  const int64_t per_rank = by_rank.size(1);
  std::vector<double> ordered(static_cast<size_t>(per_rank * mesh.data_parallel_size()));
  for (int64_t rank = 0; rank < by_rank.size(0); ++rank) {
    if (!speaks_for_microbatches(mesh, rank)) continue;
    for (int64_t k = 0; k < per_rank; ++k) {
      ordered[static_cast<size_t>(microbatch_of(mesh, rank, k, per_rank, reduce_once))] = values[rank][k];
    }
  }
  return ordered;
}

int64_t valid_tokens(const model::Microbatch& batch) { return batch.labels.ne(kIgnoreIndex).sum().item<int64_t>(); }

}  // namespace qwen3::rank
