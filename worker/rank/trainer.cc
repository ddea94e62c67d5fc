#include "worker/rank/trainer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "parallel/collectives.h"
#include "parallel/grad_norm.h"
#include "parallel/ordered_sum.h"
#include "parallel/plan.h"
#include "spec/estimate.h"
#include "spec/lr_schedule.h"

namespace qwen3::rank {
namespace {

using parallel::Timeline;

at::ScalarType scalar_type(spec::Precision precision) {
  switch (precision) {
    case spec::Precision::kBfloat16:
      return at::kBFloat16;
    case spec::Precision::kFloat64:
      return at::kDouble;
    case spec::Precision::kFloat32:
      return at::kFloat;
  }
  return at::kFloat;
}

parallel::UnitOptions unit_options(const spec::RunSpec& run) {
  return {.ordered = run.ordered,
          .reduce_once = run.reduce_once,
          .reduce_in_bfloat16 = run.reduce_in_bfloat16,
          .reshard_after_forward = run.reshard_after_forward,
          .compute_dtype = scalar_type(run.precision),
          .state_dtype = run.precision == spec::Precision::kFloat64 ? at::kDouble : at::kFloat,
          .sequence_parallel = run.sequence_parallel};
}

}  // namespace

Trainer::Trainer(const spec::RunSpec& run, const parallel::DeviceMesh& mesh, data::Splits data)
    : run_(run),
      mesh_(mesh),
      validation_(std::move(data.validation)),
      model_(run.model, parameters_, parallel::plan_seams(run_, mesh_, sharded_), run.moe),
      sharded_(parameters_, mesh, unit_options(run)),
      optimizer_(run.optimizer, sharded_),
      experts_(run, parameters_.buffers()),
      batches_(std::move(data.train), run) {
  sharded_.initialise(run.seed);
}

Trainer::Outcome Trainer::step(int64_t step, const Orders& mine) {
  Timeline& timeline = mesh_.instruments().timeline;
  timeline.begin_step(step);
  timeline.enter(Timeline::kData);
  std::vector<model::Microbatch> microbatches;
  int64_t valid = 0;
  for (int64_t k = 0; k < run_.microbatches_per_rank; ++k) {
    microbatches.push_back(batches_.training(
        step, microbatch_of(run_.mesh, mesh_.rank(), k, run_.microbatches_per_rank, run_.reduce_once)));
    valid += valid_tokens(microbatches.back());
  }

  timeline.enter(Timeline::kOther);
  const bool first = mesh_.rank() == 0;
  if (!speaks_for_microbatches(run_.mesh, mesh_.rank())) valid = 0;  // its peers of the same microbatches count them
  const std::vector<int64_t> agreed =
      parallel::all_reduce_sum({valid, first ? int64_t{mine.word} : 0, first ? int64_t{mine.skip_save} : 0,
                                first ? mine.trace.steps : 0, first ? mine.trace.trace : 0},
                               mesh_.world());
  valid = std::max<int64_t>(agreed[0], 1);

  std::vector<double> losses, auxiliary_losses;  // of this rank's microbatches, divided by the step's valid tokens
  experts_.begin_step();
  timeline.enter(Timeline::kCompute);
  for (size_t k = 0; k < microbatches.size(); ++k) {
    sharded_.set_last_microbatch(k + 1 == microbatches.size());
    const model::Microbatch here = microbatches[k].to(mesh_.device());
    at::Tensor loss = model_.loss(here, 1.0 / static_cast<double>(valid), experts_.record());
    loss.backward();
    sharded_.end_of_backward();
    timeline.end_backward();
    losses.push_back(loss.item<double>());
    auxiliary_losses.push_back(experts_.end_microbatch());
  }
  sharded_.finish_step();

  timeline.enter(Timeline::kOther);
  const auto [loss, auxiliary_loss, expert_counts] = totals(losses, auxiliary_losses);
  timeline.enter(Timeline::kOptimizer);
  const double norm = parallel::grad_norm(sharded_, run_.ordered);
  check_finite(step, loss, norm, losses);
  const double lr = run_.optimizer.lr * spec::lr_factor(run_.lr_schedule, step);
  const bool clip = run_.max_norm > 0 && norm > run_.max_norm;
  experts_.update(expert_counts);
  optimizer_.step(step, lr, clip ? run_.max_norm / (norm + 1e-6) : 1.0);
  sharded_.masters_changed();

  const double seconds = timeline.end_step();
  const double tokens = static_cast<double>(run_.global_batch_size * run_.data.seq_len);
  Outcome outcome;
  outcome.orders = {static_cast<Orders::Word>(agreed[1]), agreed[2] != 0, {agreed[3], agreed[4]}};
  outcome.metrics = {.step = step,
                     .loss = loss,
                     .grad_norm = norm,
                     .lr = lr,
                     .valid_tokens = agreed[0],
                     .seconds = seconds,
                     .tokens_per_second = tokens / seconds,
                     .split = splits_.add(timeline),
                     .mean_split = splits_.mean(),
                     .experts = experts_.metrics(expert_counts, auxiliary_loss)};
  if (run_.peak_flops > 0) {
    outcome.metrics.mfu = spec::flops_per_token(run_.model, run_.data.seq_len) * tokens /
                          (seconds * run_.peak_flops * static_cast<double>(mesh_.world().size()));
  }
  return outcome;
}

// One exchange for all of them, as int64: losses by their bits. Losses are folded over the global microbatch index in
// the same tree as the gradients; counts are whole numbers, whose order does not matter.
Trainer::Totals Trainer::totals(const std::vector<double>& losses, const std::vector<double>& auxiliary_losses) const {
  const auto bits = [](const std::vector<double>& values) { return at::tensor(values, at::kDouble).view(at::kLong); };
  const at::Tensor all = parallel::all_gather(at::cat({bits(losses), bits(auxiliary_losses), experts_.counts()}),
                                              mesh_.world());  // [ranks, K + K + layers * E]
  const auto microbatches = static_cast<int64_t>(losses.size());
  const auto folded = [&](int64_t first) {
    const at::Tensor values = all.narrow(1, first, microbatches).contiguous().view(at::kDouble);
    return parallel::tree_sum(in_microbatch_order(values, run_.mesh, run_.reduce_once));
  };
  const at::Tensor counts = all.narrow(1, 2 * microbatches, experts_.counts().numel());
  const int64_t tp = run_.mesh.degree(spec::Axis::kTp);  // innermost; its ranks count the same tokens
  return {.loss = folded(0),
          .auxiliary_loss = folded(microbatches),
          .expert_counts = counts.slice(0, 0, counts.size(0), tp).sum(0)};
}

// Every rank sees the same loss and norm, so all throw or none does.
void Trainer::check_finite(int64_t step, double loss, double norm, const std::vector<double>& losses) const {
  if (std::isfinite(loss) && std::isfinite(norm)) return;
  const auto& tensors = sharded_.tensors();
  int64_t bad = -1;  // 0: the loss; i + 1: tensor i
  for (double l : losses) bad = std::isfinite(l) ? bad : 0;
  for (size_t i = 0; i < tensors.size() && bad < 0; ++i) {
    if (!tensors[i]->grad.isfinite().all().item<bool>()) bad = static_cast<int64_t>(i) + 1;
  }
  const at::Tensor all = parallel::all_gather(at::tensor({bad}, at::kLong), mesh_.world());
  for (int64_t rank = 0; rank < all.size(0); ++rank) {
    const int64_t where = all[rank][0].item<int64_t>();
    if (where < 0) continue;
    const std::string thing = where == 0 ? "the loss" : "the gradient of " + tensors[where - 1]->name;
    throw NonFiniteError(step, rank,
                         "step " + std::to_string(step) + ": " + thing + " on rank " + std::to_string(rank) +
                             " is not finite (loss " + std::to_string(loss) + ", gradient norm " +
                             std::to_string(norm) + "); nothing of the step was applied");
  }
  throw NonFiniteError(step, 0,
                       "step " + std::to_string(step) +
                           ": the gradient norm overflows though every gradient "
                           "is finite; nothing of the step was applied");
}

std::vector<std::string> Trainer::unit_names() const {
  std::vector<std::string> names;
  for (const auto& unit : parameters_.units()) names.push_back(unit.name);
  return names;
}

double Trainer::validate() {
  c10::NoGradGuard no_grad;
  const spec::ValidationSpec& spec = run_.validation;
  const int64_t batch = spec.data.local_batch_size;
  int64_t microbatches = (validation_->sequences() + batch - 1) / batch;
  if (spec.steps > 0) microbatches = std::min(microbatches, spec.steps);
  const int64_t ranks = run_.mesh.data_parallel_size();
  const int64_t rounds = (microbatches + ranks - 1) / ranks;  // the same on every rank: each forward is a collective
  std::vector<double> losses, tokens;
  for (int64_t round = 0; round < rounds; ++round) {
    const int64_t m = microbatch_of(run_.mesh, mesh_.rank(), round, rounds);
    model::Microbatch microbatch = consecutive(*validation_, m * batch, batch);
    if (m >= microbatches) microbatch.labels.fill_(-100);
    tokens.push_back(static_cast<double>(valid_tokens(microbatch)));
    losses.push_back(model_.loss(microbatch.to(mesh_.device()), 1.0).item<double>());
  }
  const at::Tensor all =
      parallel::all_gather(at::stack({at::tensor(losses, at::kDouble), at::tensor(tokens, at::kDouble)}),
                           mesh_.world());  // [ranks, 2, rounds]
  const auto total = [&](int64_t what) {    // in microbatch order, so the sum does not depend on the mesh
    double sum = 0;
    for (const double value : in_microbatch_order(all.select(1, what), run_.mesh)) sum += value;
    return sum;
  };
  return total(0) / std::max(total(1), 1.0);
}

}  // namespace qwen3::rank
