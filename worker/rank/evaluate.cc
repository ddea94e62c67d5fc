#include "worker/rank/evaluate.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <optional>
#include <stdexcept>
#include <vector>

#include "model/qwen3.h"
#include "parallel/collectives.h"
#include "parallel/fsdp/sharded_model.h"
#include "parallel/mesh.h"
#include "parallel/plan.h"
#include "spec/rules.h"
#include "worker/rank/batch_source.h"
#include "worker/rank/evaluation_input.h"
#include "worker/rank/evaluation_output.h"
#include "worker/rank/rendezvous.h"
#include "worker/rank/weights.h"
#include "worker/rank/wire.h"

namespace qwen3::rank {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kReportEvery = std::chrono::milliseconds(100);

at::ScalarType dtype_of(const v1::EvaluationSpec& evaluation) {
  if (evaluation.dtype().empty() || evaluation.dtype() == "float32") return at::kFloat;
  if (evaluation.dtype() == "float64") return at::kDouble;
  if (evaluation.dtype() == "bfloat16") return at::kBFloat16;
  throw std::runtime_error("evaluation: dtype is \"" + evaluation.dtype() +
                           "\", wanted \"float64\", \"float32\" or \"bfloat16\"");
}

// Weights alone: no moments, and a bfloat16 copy only, unless gradients are added up in float32.
parallel::UnitOptions unit_options(const spec::RunSpec& run, at::ScalarType dtype, bool gradients) {
  return {.ordered = run.ordered,
          .reshard_after_forward = run.reshard_after_forward,
          .compute_dtype = dtype,
          .state_dtype = gradients && dtype == at::kBFloat16 ? at::kFloat : dtype,
          .moments = false,
          .sequence_parallel = run.sequence_parallel};
}

// How the task's mesh computes this model on sequences of this length. Throws what the rules say against it.
spec::RunSpec plan_of(spec::RunSpec run, const EvaluationModel& model, const EvaluationData& data,
                      at::ScalarType dtype) {
  run.model = model.source->model();
  run.moe = model.moe;
  run.data.seq_len = run.validation.data.seq_len = data.length;
  run.ordered = false;  // whose own rules are those of training
  if (data.length % run.mesh.degree(spec::Axis::kTp) != 0) run.sequence_parallel = run.async_tensor_parallel = false;
  for (const spec::Violation& violation : spec::check_rules(run)) {
    if (violation.field.starts_with("parallelism.")) throw std::runtime_error("evaluation: " + violation.message);
  }
  run.ordered = dtype != at::kBFloat16;
  return run;
}

// One evaluation in progress on this rank.
class Evaluation {
 public:
  Evaluation(const internal::v1::RankAssignment& assignment, const spec::RunSpec& run, const EvaluationModel& source,
             EvaluationData data, parallel::Rendezvous* store, Link& link)
      : assignment_(assignment),
        evaluation_(assignment.evaluation()),
        source_(source),
        data_(std::move(data)),
        link_(link),
        dtype_(dtype_of(evaluation_)),
        run_(plan_of(run, source, data_, dtype_)),
        mesh_(run_.mesh, assignment.rank(), store, group_options(assignment)),
        model_(run_.model, parameters_, parallel::plan_seams(run_, mesh_, sharded_), run_.moe),
        sharded_(parameters_, mesh_, unit_options(run_, dtype_, evaluation_.write_gradients())) {
    const int64_t ranks = run.mesh.data_parallel_size();
    rounds_ = (data_.microbatches + ranks - 1) / ranks;
    // Replicas add once, at the end: each must own a whole subtree of the sum over the microbatches (spec/layout.h).
    if (evaluation_.write_gradients() && run.mesh.degree(spec::Axis::kDpReplicate) > 1) {
      rounds_ = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(rounds_)));
    }
    load_weights(*source_.source, source_.name, sharded_);
  }

  v1::EvaluationResult run() {
    const bool gradients = evaluation_.write_gradients();
    if (evaluation_.write_logits()) {
      logits_.emplace(path("logits"), tag(), std::vector<int64_t>{sequences(), data_.length, vocab()}, wide(), mesh_);
    }
    const int64_t valid = count_valid();
    if (valid == 0) throw std::runtime_error("evaluation: no token has a target, so there is no loss");
    std::vector<double> losses;
    for (int64_t round = 0; round < rounds_; ++round) {
      losses.push_back(gradients ? with_gradient(round, valid) : without_gradient(round));
      report(std::min(data_.microbatches, (round + 1) * mesh_.shape().data_parallel_size()));
    }
    v1::EvaluationResult result;
    result.set_loss(sum_of(losses) / static_cast<double>(valid));
    result.set_loss_hex(hex(result.loss()));
    result.set_perplexity(std::exp(result.loss()));
    result.set_tokens(valid);
    result.set_step(source_.step);
    if (logits_) {
      logits_->commit();
      result.set_logits_file(path("logits"));
    }
    if (gradients) {
      sharded_.finish_step();
      write_gradients(path("gradients"), tag(), source_.source->model(), wide(), sharded_, mesh_);
      result.set_gradients_file(path("gradients"));
    }
    return result;
  }

 private:
  bool wide() const { return dtype_ == at::kDouble; }
  int64_t vocab() const { return source_.source->model().vocab; }
  int64_t sequences() const { return std::min(data_.dataset->sequences(), data_.microbatches * data_.batch); }
  std::string path(const char* what) const { return evaluation_.output_folder() + "/" + what + ".safetensors"; }
  std::string tag() const { return std::to_string(assignment_.attempt()) + "-" + std::to_string(assignment_.epoch()); }

  // The global microbatch that this rank runs in `round`.
  int64_t mine(int64_t round) const { return microbatch_of(mesh_.shape(), mesh_.rank(), round, rounds_); }

  bool speaks() const { return speaks_for_microbatches(mesh_.shape(), mesh_.rank()); }

  // Past the last microbatch it has no label, so that every rank runs as many: each forward is a collective.
  model::Microbatch microbatch(int64_t m) const {
    model::Microbatch batch = consecutive(*data_.dataset, m * data_.batch, data_.batch);
    if (m >= data_.microbatches) batch.labels.fill_(-100);
    return batch.to(mesh_.device());
  }

  int64_t count_valid() const {
    int64_t valid = 0;
    for (int64_t round = 0; round < rounds_; ++round) {
      valid += valid_tokens(microbatch(mine(round)));
    }
    return parallel::all_reduce_sum({speaks() ? valid : 0}, mesh_.world())[0];
  }

  // Sum of the token losses of this rank's microbatch.
  double without_gradient(int64_t round) {
    c10::NoGradGuard no_grad;
    const int64_t m = mine(round);
    const model::Microbatch batch = microbatch(m);
    const double loss = model_.loss(batch, 1.0).item<double>();
    add_logits(m, batch);
    return loss;
  }

  double with_gradient(int64_t round, int64_t valid) {
    const int64_t m = mine(round);
    const model::Microbatch batch = microbatch(m);
    sharded_.set_last_microbatch(round + 1 == rounds_);
    const at::Tensor loss = model_.loss(batch, 1.0);
    loss.backward(at::full_like(loss, 1.0 / static_cast<double>(valid)));
    sharded_.end_of_backward();
    c10::NoGradGuard no_grad;
    add_logits(m, batch);
    return loss.item<double>();
  }

  void add_logits(int64_t m, const model::Microbatch& batch) {
    if (!logits_) return;
    const at::Tensor logits = model_.logits(batch);
    if (m < data_.microbatches && speaks()) logits_->add(m * data_.batch, logits);
  }

  // In microbatch order, so that the sum does not depend on the mesh.
  double sum_of(const std::vector<double>& losses) const {
    const at::Tensor all = parallel::all_gather(at::tensor(losses, at::kDouble), mesh_.world());  // [ranks, rounds]
    double sum = 0;
    for (const double loss : in_microbatch_order(all, mesh_.shape())) sum += loss;
    return sum;
  }

  void report(int64_t done) {
    const auto now = Clock::now();
    if (mesh_.rank() != 0 || (done < data_.microbatches && now - reported_ < kReportEvery)) return;
    reported_ = now;
    link_.progress(done, data_.microbatches, "microbatches");
  }

  const internal::v1::RankAssignment& assignment_;
  const v1::EvaluationSpec& evaluation_;
  const EvaluationModel& source_;
  EvaluationData data_;
  Link& link_;
  at::ScalarType dtype_;
  spec::RunSpec run_;
  parallel::DeviceMesh mesh_;
  model::ParameterSet parameters_;
  model::Qwen3 model_;  // adds its parameters; then they are sharded
  parallel::ShardedModel sharded_;
  int64_t rounds_ = 0;  // microbatches of each rank
  std::optional<LogitsFile> logits_;
  Clock::time_point reported_;
};

// The first line of every rank's log.
void announce(const internal::v1::RankAssignment& assignment, const EvaluationModel& model,
              const EvaluationData& data) {
  const v1::EvaluationSpec& evaluation = assignment.evaluation();
  std::printf(
      "rank %d of %d, attempt %d: evaluates %s (%lld parameters) in %s, %lld microbatches of %lld x %lld, %d threads\n",
      assignment.rank(), assignment.world_size(), assignment.attempt(), model.name.c_str(),
      static_cast<long long>(spec::parameter_count(model.source->model())),
      evaluation.dtype().empty() ? "float32" : evaluation.dtype().c_str(), static_cast<long long>(data.microbatches),
      static_cast<long long>(data.batch), static_cast<long long>(data.length), at::get_num_threads());
  std::fflush(stdout);
}

// The mesh and threads of a task: what its spec says, defaults filled in.
spec::RunSpec run_spec(const internal::v1::RankAssignment& assignment, const spec::config::Environment& environment) {
  v1::JobSpec job = assignment.spec();
  spec::config::fill_defaults(job);
  const spec::RunSpec run = spec::config::run_spec_from_job(job, environment);
  check_world_size(assignment, run.mesh);
  return run;
}

}  // namespace

void evaluate(const internal::v1::RankAssignment& assignment, const spec::config::Environment& environment,
              Link& link) {
  const v1::EvaluationSpec& evaluation = assignment.evaluation();
  const spec::RunSpec run = run_spec(assignment, environment);
  if ((evaluation.write_logits() || evaluation.write_gradients()) && !evaluation.output_folder().starts_with('/')) {
    throw std::runtime_error("evaluation: output_folder is \"" + evaluation.output_folder() +
                             "\", wanted an absolute folder for what is written");
  }
  if (run.threads_per_rank > 0) at::set_num_threads(static_cast<int>(run.threads_per_rank));
  const EvaluationModel model = open_evaluation_model(evaluation.model(), environment);
  EvaluationData data = open_evaluation_data(evaluation, model, environment);
  announce(assignment, model, data);
  const auto store = rendezvous(assignment, link);
  Evaluation task(assignment, run, model, std::move(data), store.get(), link);
  internal::v1::RunFinished finished;
  finished.set_step(model.step);
  const v1::EvaluationResult result = task.run();
  if (assignment.rank() == 0) *finished.mutable_evaluation() = result;
  link.finished(finished);
}

}  // namespace qwen3::rank
