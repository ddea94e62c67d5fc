#include "worker/rank/run.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <google/protobuf/util/json_util.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <thread>

#include "checkpoint/hf/export.h"
#include "checkpoint/reader.h"
#include "checkpoint/tensor_source.h"
#include "kernels/cpu/recycling_allocator.h"
#include "parallel/mesh.h"
#include "worker/rank/checkpointer.h"
#include "worker/rank/data/dataset.h"
#include "worker/rank/profiler.h"
#include "worker/rank/rendezvous.h"
#include "worker/rank/status_error.h"
#include "worker/rank/trainer.h"
#include "worker/rank/training_state.h"
#include "worker/rank/weights.h"
#include "worker/rank/wire.h"

namespace qwen3::rank {
namespace {

constexpr int kMostWaitingCheckpoints = 2;  // being written or prepared, neither committed nor given up

data::Splits open_data(const spec::RunSpec& run, const spec::config::Environment& environment) {
  data::OpenOptions options;
  options.data = run.data;
  options.vocab = run.model.vocab;
  options.cache_folder = environment.data_root + "/tokens";
  options.progress = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  const bool own_text = run.validation.enable && !run.validation.data.path.empty();
  if (run.validation.enable && !own_text) options.held_out = run.validation.split;
  data::Splits splits = data::open(options);
  if (own_text) {
    options.data = run.validation.data;
    splits.validation = data::open(options).train;
  }
  return splits;
}

std::string json_of(const v1::JobSpec& spec) {
  std::string json;
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  if (!google::protobuf::util::MessageToJsonString(spec, &json, options).ok()) return "{}";
  return json;
}

// The first line of every rank's log.
void announce(const internal::v1::RankAssignment& assignment, const spec::RunSpec& spec) {
  std::printf(
      "rank %d of %d, attempt %d: %s, %lld parameters, computes in %s, %lld microbatches of %lld x %lld a step, "
      "%d threads\n",
      assignment.rank(), assignment.world_size(), assignment.attempt(), spec.model.flavor.c_str(),
      static_cast<long long>(spec::parameter_count(spec.model)),
      spec.precision == spec::Precision::kBfloat16 ? "bfloat16" : "float32",
      static_cast<long long>(spec.microbatches_per_rank), static_cast<long long>(spec.data.local_batch_size),
      static_cast<long long>(spec.data.seq_len), at::get_num_threads());
  std::fflush(stdout);
}

// One run in progress on this rank.
class Run {
 public:
  Run(const internal::v1::RankAssignment& assignment, const spec::RunSpec& spec,
      const spec::config::Environment& environment, parallel::Rendezvous* store, Link& link)
      : assignment_(assignment),
        spec_(spec),
        link_(link),
        mesh_(spec.mesh, assignment.rank(), store, group_options(assignment)),
        trainer_(spec_, mesh_, open_data(spec_, environment)),
        checkpointer_(spec_, mesh_, trainer_.model(),
                      {assignment.checkpoint_folder(), assignment.attempt(), json_of(assignment.spec())},
                      [this](const internal::v1::PreparedCheckpoint& checkpoint) { link_.prepared(checkpoint); }),
        profiler_(spec_.profiling, assignment.checkpoint_folder(), mesh_.rank(), mesh_.instruments().timeline,
                  trainer_.unit_names()) {}

  void restore() {
    if (!assignment_.restore_folder().empty()) {
      state_ = checkpointer_.restore(assignment_.restore_folder(), {});
      last_saved_ = state_.step;
      std::printf("restored step %lld from %s\n", static_cast<long long>(state_.step),
                  assignment_.restore_folder().c_str());
      std::fflush(stdout);
    } else if (!assignment_.initial_load_folder().empty()) {
      const bool model_only = spec_.checkpoint.initial_load_model_only;
      const checkpoint::RunState loaded =
          checkpointer_.restore(assignment_.initial_load_folder(),
                                {.training_state = !model_only, .expert_bias = spec_.moe.expert_bias_load});
      if (!model_only) go_on_from(loaded);
    } else if (!spec_.init_hf_folder.empty()) {
      const auto source = checkpoint::open_hf_source(spec_.init_hf_folder);
      if (!source.ok()) throw std::runtime_error(std::string(source.status().message()));
      load_weights(**source, spec_.init_hf_folder, trainer_.model());
      std::printf("initial weights from %s\n", spec_.init_hf_folder.c_str());
      std::fflush(stdout);
    }
  }

  // A lost peer is explained in this rank's log.
  void train() try {
    while (state_.step < spec_.steps) {
      const int64_t step = state_.step + 1;
      profiler_.before_step(step);
      Trainer::Outcome outcome = trainer_.step(step, orders_for(step));
      profiler_.after_step(step, outcome.orders.trace);
      advance(outcome.metrics);
      const bool stop = outcome.orders.word == Orders::kStop || outcome.orders.word == Orders::kStopWithCheckpoint;
      const bool last = step == spec_.steps;
      validate_if_due(outcome.metrics, last);
      if (spec_.state_digest_freq > 0 && step % spec_.state_digest_freq == 0) {
        outcome.metrics.state_digest = state_digest(trainer_.model());
      }
      report(outcome.metrics, last);
      if (stop) {
        stopped_ = !last;
        if (outcome.orders.word == Orders::kStopWithCheckpoint || last) save(/*last=*/true);
        return;
      }
      const bool due = spec_.checkpoint.enable && step % spec_.checkpoint.interval == 0;
      if (last) {
        save(/*last=*/true);
      } else if (outcome.orders.word == Orders::kCheckpoint || due) {
        if (outcome.orders.skip_save) {
          if (mesh_.rank() == 0) link_.skipped(step, "two checkpoints already wait for their commit");
        } else {
          save(/*last=*/false);
        }
      }
      if (spec_.step_delay_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(spec_.step_delay_ms));
    }
  } catch (const c10::DistError&) {
    std::fprintf(stderr, "the last collectives of rank %lld:\n%s", static_cast<long long>(mesh_.rank()),
                 parallel::report(mesh_.instruments().flights).c_str());
    throw;
  }

  // Waits for the last commit; then rank 0 exports.
  void finish() {
    profiler_.finish();
    checkpointer_.wait();
    // An attempt that was restored from the run's last checkpoint has not validated yet.
    if (spec_.validation.enable && !validation_loss_ && !stopped_) validation_loss_ = trainer_.validate();
    internal::v1::RunFinished finished;
    finished.set_step(state_.step);
    finished.set_stopped(stopped_);
    if (!saved_steps_.empty() && last_saved_ == state_.step) link_.wait_committed(state_.step);
    if (mesh_.rank() == 0) describe_result(finished);
    link_.finished(finished);
  }

 private:
  // A full warm start. Without a step to train there would be no checkpoint, digest or export of this job's own.
  void go_on_from(const checkpoint::RunState& loaded) {
    if (loaded.step >= spec_.steps) {
      throw std::runtime_error("checkpoint " + assignment_.initial_load_folder() + " is of step " +
                               std::to_string(loaded.step) + ", but training.steps is " + std::to_string(spec_.steps) +
                               ": with checkpoint.initial_load_model_only = false the job goes on after that step; "
                               "write more steps, or true to take the weights alone");
    }
    state_ = loaded;
  }

  Orders orders_for(int64_t step) {
    if (mesh_.rank() != 0) return {};
    int waiting = 0;
    for (int64_t saved : saved_steps_) waiting += link_.settled(saved) ? 0 : 1;
    return {link_.word_for(step), waiting >= kMostWaitingCheckpoints, link_.take_trace()};
  }

  void advance(const StepMetrics& metrics) {
    state_.step = metrics.step;
    state_.tokens += metrics.valid_tokens;
    if (metrics.step == 1) state_.first_loss = metrics.loss;
    state_.last_loss = metrics.loss;
    state_.training_seconds += metrics.seconds;
  }

  void validate_if_due(StepMetrics& metrics, bool last) {
    if (!spec_.validation.enable || !(last || metrics.step % spec_.validation.freq == 0)) return;
    validation_loss_ = trainer_.validate();
    metrics.validation_loss = validation_loss_;
  }

  void report(StepMetrics& metrics, bool last) {
    metrics.peak_memory_bytes = kernels::peak_bytes();
    const bool due = last || metrics.step == 1 || metrics.step % spec_.log_freq == 0 || metrics.validation_loss ||
                     !metrics.state_digest.empty();
    link_.step_done(metrics.step, mesh_.rank() == 0 && due ? &metrics : nullptr);
  }

  void save(bool last) {
    checkpointer_.save(state_, last);
    last_saved_ = state_.step;
    saved_steps_.push_back(state_.step);
  }

  void describe_result(internal::v1::RunFinished& finished) {
    v1::Result& result = *finished.mutable_result();
    result.set_first_loss(state_.first_loss);
    result.set_final_loss(state_.last_loss);
    result.set_final_loss_hex(hex(state_.last_loss));
    result.set_has_validation(validation_loss_.has_value());
    result.set_validation_loss(validation_loss_.value_or(0));
    const auto tokens = static_cast<double>(state_.step * spec_.global_batch_size * spec_.data.seq_len);
    if (state_.training_seconds > 0) result.set_tokens_per_second(tokens / state_.training_seconds);
    if (last_saved_ != state_.step) return;

    auto reader = checkpoint::Reader::open(committed_folder());
    if (!reader.ok()) throw StatusError("the last checkpoint", reader.status());
    result.set_state_digest(reader->manifest().state_digest);
    if (!spec_.checkpoint.last_save_in_hf || stopped_) return;
    const std::string folder = assignment_.checkpoint_folder() + "/hf";
    const absl::Status status = checkpoint::export_hf(
        *reader, spec_.model,
        {.dtype = spec_.checkpoint.export_dtype, .tokenizer = spec_.data.tokenizer, .assets = spec_.init_hf_folder},
        folder);
    if (!status.ok()) throw StatusError("Hugging Face export", status);
    finished.set_hf_export(folder);
  }

  // Where the checkpoint of the last step is: written by this attempt, or the one it was restored from.
  std::string committed_folder() const {
    if (saved_steps_.empty()) return assignment_.restore_folder();
    return assignment_.checkpoint_folder() + "/step-" + std::to_string(state_.step) + ".attempt-" +
           std::to_string(assignment_.attempt());
  }

  const internal::v1::RankAssignment& assignment_;
  const spec::RunSpec& spec_;
  Link& link_;
  parallel::DeviceMesh mesh_;
  Trainer trainer_;
  Checkpointer checkpointer_;
  Profiler profiler_;
  checkpoint::RunState state_;
  int64_t last_saved_ = 0;
  std::vector<int64_t> saved_steps_;
  std::optional<double> validation_loss_;
  bool stopped_ = false;
};

}  // namespace

void run(const internal::v1::RankAssignment& assignment, const spec::config::Environment& environment, Link& link) {
  const spec::RunSpec spec = spec::config::run_spec_from_job(assignment.spec(), environment);
  check_world_size(assignment, spec.mesh);
  if (spec.ordered) {
    at::set_num_threads(1);
  } else if (spec.threads_per_rank > 0) {
    at::set_num_threads(static_cast<int>(spec.threads_per_rank));
  }
  announce(assignment, spec);
  const auto store = rendezvous(assignment, link);
  Run run(assignment, spec, environment, store.get(), link);
  run.restore();
  run.train();
  run.finish();
}

}  // namespace qwen3::rank
