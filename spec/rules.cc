#include "spec/rules.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "spec/activation_checkpoint.h"

namespace qwen3::spec {
namespace {

// Larger counts are typing errors; the limit also keeps every product below in range.
constexpr int64_t kMaxDegree = 1 << 16;
constexpr int64_t kMaxBatch = 1 << 24;
constexpr int64_t kMaxSteps = int64_t{1} << 40;
constexpr int64_t kFloatsPerCacheLine = 16;

bool power_of_two(int64_t value) { return value > 0 && std::has_single_bit(static_cast<uint64_t>(value)); }

class Checker {
 public:
  explicit Checker(const RunSpec& run) : run_(run) {}

  std::vector<Violation> check() {
    model();
    moe();
    optimizer();
    lr_schedule();
    mesh();
    tensor_parallel();
    activation_checkpoint();
    training();
    validation();
    reporting();
    if (run_.ordered) ordered();
    return std::move(violations_);
  }

 private:
  template <typename... Parts>
  void report(std::string field, Parts&&... parts) {
    violations_.push_back({std::move(field), absl::StrCat(std::forward<Parts>(parts)...)});
  }

  // Returns whether low <= value <= high.
  bool in_range(std::string field, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value <= high) return true;
    report(field, field, " is ", value, "; it must be at ", value < low ? "least " : "most ", value < low ? low : high);
    return false;
  }

  // `holds` is false for NaN by the caller's comparison.
  void number(std::string field, double value, bool holds, const char* wanted) {
    if (!holds) report(field, field, " is ", value, "; it must be ", wanted);
  }

  void model() {
    const ModelShape& shape = run_.model;
    in_range("model.vocab_size", shape.vocab, 1, kMaxBatch);
  }

  void moe() {
    const MoeSpec& m = run_.moe;
    number("moe.load_balance_coeff", m.load_balance_coeff,
           m.load_balance_coeff >= 0 && std::isfinite(m.load_balance_coeff), "a finite number of at least 0");
    number("moe.aux_loss_coeff", m.aux_loss_coeff, m.aux_loss_coeff >= 0 && std::isfinite(m.aux_loss_coeff),
           "a finite number of at least 0 (0: no auxiliary loss)");
    if (run_.model.experts > 0) return;
    if (m.aux_loss_coeff > 0) no_experts("moe.aux_loss_coeff", "write 0 or leave it out");
    if (m.force_load_balance) no_experts("debug.moe_force_load_balance", "write false or leave it out");
  }

  void no_experts(std::string field, const char* instead) {
    report(field, field, " is set, but model.flavor \"", run_.model.flavor, "\" has no experts; ", instead);
  }

  void optimizer() {
    const OptimizerSpec& o = run_.optimizer;
    number("optimizer.lr", o.lr, o.lr >= 0 && std::isfinite(o.lr), "a finite number of at least 0");
    number("optimizer.beta1", o.beta1, o.beta1 >= 0 && o.beta1 < 1, "at least 0 and below 1");
    number("optimizer.beta2", o.beta2, o.beta2 >= 0 && o.beta2 < 1, "at least 0 and below 1");
    number("optimizer.eps", o.eps, o.eps > 0 && std::isfinite(o.eps), "a finite number above 0");
    number("optimizer.weight_decay", o.weight_decay, o.weight_decay >= 0 && std::isfinite(o.weight_decay),
           "a finite number of at least 0");
    for (const std::string& pattern : o.no_decay) {
      if (pattern.empty())
        report("optimizer.no_decay", "optimizer.no_decay holds an empty pattern; write a name, as \"*norm*\"");
    }
  }

  void lr_schedule() {
    const LrScheduleSpec& s = run_.lr_schedule;
    number("lr_scheduler.min_lr_factor", s.min_factor, s.min_factor >= 0 && s.min_factor <= 1, "between 0 and 1");
    const bool steps = in_range("training.steps", run_.steps, 1, kMaxSteps);
    // total_steps and the sizes of validation follow training's by default: one mistake is reported once.
    const bool total =
        s.total_steps == run_.steps ? steps : in_range("lr_scheduler.total_steps", s.total_steps, 1, kMaxSteps);
    const bool warmup = in_range("lr_scheduler.warmup_steps", s.warmup_steps, 0, kMaxSteps);
    if (!steps || !total || !warmup) return;
    if (s.total_steps < run_.steps) {
      report("lr_scheduler.total_steps", "lr_scheduler.total_steps is ", s.total_steps, ", but training.steps is ",
             run_.steps, ": the schedule must be at least as long as the run");
    }
    if (s.warmup_steps > s.total_steps) {
      report("lr_scheduler.warmup_steps", "lr_scheduler.warmup_steps is ", s.warmup_steps,
             ", but the schedule has only ", s.total_steps, " steps");
    } else if (s.warmup_steps + s.decay_steps > s.total_steps) {
      report("lr_scheduler.decay_ratio", "lr_scheduler: ", s.warmup_steps, " steps of warm-up + ", s.decay_steps,
             " of decay (decay_ratio) = ", s.warmup_steps + s.decay_steps, ", but the schedule has only ",
             s.total_steps);
    }
  }

  void mesh() {
    degree("data_parallel_replicate_degree", Axis::kDpReplicate);
    degree("data_parallel_shard_degree", Axis::kDpShard);
    degree("tensor_parallel_degree", Axis::kTp);
    not_yet("pipeline_parallel_degree", "pipeline parallelism", Axis::kPp);
    not_yet("context_parallel_degree", "context parallelism", Axis::kCp);
    expert_mesh();
  }

  void expert_mesh() {
    const std::string field = "parallelism.expert_parallel_degree";
    const int64_t ep = run_.mesh.ep, experts = run_.model.experts;
    if (!in_range(field, ep, 1, kMaxDegree) || ep == 1) return;
    if (experts == 0) {
      report(field, field, " is ", ep, ", but model.flavor \"", run_.model.flavor, "\" has no experts; it must be 1");
      return;
    }
    if (experts % ep != 0) {
      report(field, field, " is ", ep, "; it must divide the ", experts, " experts of model.flavor \"",
             run_.model.flavor, "\"");
    }
    const int64_t shard = run_.mesh.degree(Axis::kDpShard), cp = run_.mesh.degree(Axis::kCp),
                  tp = run_.mesh.degree(Axis::kTp);
    if (std::min({shard, cp, tp}) < 1 || std::max({shard, cp, tp}) > kMaxDegree) return;  // reported above
    if (shard * cp * tp % ep != 0) {
      report(field, field, " is ", ep, "; it must divide data_parallel_shard_degree ", shard,
             " * context_parallel_degree ", cp, " * tensor_parallel_degree ", tp, " = ", shard * cp * tp);
    }
  }

  bool degree(std::string key, Axis axis) {
    return in_range("parallelism." + key, run_.mesh.degree(axis), 1, kMaxDegree);
  }

  void not_yet(const std::string& key, const char* what, Axis axis) {
    if (!degree(key, axis) || run_.mesh.degree(axis) == 1) return;
    report("parallelism." + key, "parallelism.", key, " is ", run_.mesh.degree(axis), ", but ", what,
           " is not supported yet; it must be 1 (the data, tensor and expert degrees are supported)");
  }

  // Every tp rank takes an equal piece of each; only the vocabulary's last piece may be shorter.
  void tensor_parallel() {
    if (run_.async_tensor_parallel && !run_.sequence_parallel) {
      report("parallelism.enable_async_tensor_parallel",
             "parallelism.enable_async_tensor_parallel is true, but enable_sequence_parallel is false: then nothing is "
             "gathered that could overlap; write false, or enable_sequence_parallel = true");
    }
    const int64_t tp = run_.mesh.degree(Axis::kTp);
    if (tp <= 1 || tp > kMaxDegree) return;
    const ModelShape& shape = run_.model;
    tp_divides("attention heads", shape.heads);
    tp_divides("key-value heads", shape.kv_heads);
    if (shape.experts == 0) tp_divides("hidden features of the feed-forward layer", shape.ffn_hidden);
    if (shape.experts > 0 && run_.mesh.ep == 1) tp_divides("hidden features of an expert", shape.expert_hidden);
    const int64_t rows = (shape.vocab + tp - 1) / tp;
    if (rows * (tp - 1) >= shape.vocab) {
      report("parallelism.tensor_parallel_degree", "parallelism.tensor_parallel_degree is ", tp,
             ", which leaves a rank without any of the ", shape.vocab, " rows of the vocabulary, ", rows, " a rank");
    }
    if (!run_.sequence_parallel) return;
    tp_divides_sequence("training.seq_len", run_.data.seq_len);
    if (run_.validation.data.seq_len != run_.data.seq_len) {
      tp_divides_sequence("validation.seq_len", run_.validation.data.seq_len);
    }
  }

  void tp_divides(const char* what, int64_t number) {
    const int64_t tp = run_.mesh.degree(Axis::kTp);
    if (number % tp == 0) return;
    report("parallelism.tensor_parallel_degree", "parallelism.tensor_parallel_degree is ", tp, "; it must divide the ",
           number, " ", what, " of model.flavor \"", run_.model.flavor, "\"");
  }

  void tp_divides_sequence(std::string field, int64_t value) {
    const int64_t tp = run_.mesh.degree(Axis::kTp);
    if (value < 1 || value % tp == 0) return;
    report(field, field, " is ", value, "; it must be a multiple of tensor_parallel_degree ", tp,
           ", over whose ranks enable_sequence_parallel divides each sequence");
  }

  void activation_checkpoint() {
    const ActivationCheckpoint& a = run_.activation_checkpoint;
    number("activation_checkpoint.memory_budget", a.memory_budget, a.memory_budget >= 0 && a.memory_budget <= 1,
           "between 0 (as mode = \"full\") and 1 (as mode = \"none\")");
    if (a.mode != ActivationCheckpoint::Mode::kSelective) return;
    const std::string option = "activation_checkpoint.selective_ac_option";
    if (a.every_nth_block) {
      in_range(option, *a.every_nth_block, 1, run_.model.layers);
      return;
    }
    const auto names = block_results(run_.model);
    const std::vector<std::string> results(names.begin(), names.end());
    for (const std::string& name : a.kept) {
      if (std::find(results.begin(), results.end(), name) != results.end()) continue;
      report(option, option, " names \"", name, "\", but a block of model.flavor \"", run_.model.flavor,
             "\" has the results ", absl::StrJoin(results, ", "), "; write some of them, a number or \"op\"");
    }
  }

  void seq_len(std::string field, int64_t value) {
    const int64_t longest = run_.model.max_seq_len;
    if (value < 1) {
      report(field, field, " is ", value, "; it must be at least 1");
    } else if (value > longest) {
      report(field, field, " is ", value, ", but model.flavor \"", run_.model.flavor, "\" takes at most ", longest,
             " tokens");
    }
  }

  void training() {
    seq_len("training.seq_len", run_.data.seq_len);
    number("training.max_norm", run_.max_norm, run_.max_norm >= 0 && std::isfinite(run_.max_norm),
           "a finite number of at least 0 (0: no clipping)");
    const int64_t local = run_.data.local_batch_size;
    const int64_t ranks = run_.mesh.data_parallel_size();
    const bool batch = in_range("training.local_batch_size", local, 1, kMaxBatch);
    if (!batch || !degrees_are_sane()) return;  // the default of global_batch_size follows from both
    if (run_.global_batch_size < 1 || run_.global_batch_size % (local * ranks) != 0) {
      report("training.global_batch_size", "training.global_batch_size is ", run_.global_batch_size,
             "; it must be a positive multiple of local_batch_size ", local, " * ", ranks,
             " data-parallel ranks = ", local * ranks);
    }
  }

  bool degrees_are_sane() const {
    for (const Axis axis : {Axis::kDpReplicate, Axis::kDpShard}) {
      if (run_.mesh.degree(axis) < 1 || run_.mesh.degree(axis) > kMaxDegree) return false;
    }
    return true;
  }

  void validation() {
    const ValidationSpec& v = run_.validation;
    if (v.data.seq_len != run_.data.seq_len) seq_len("validation.seq_len", v.data.seq_len);
    if (v.data.local_batch_size != run_.data.local_batch_size) {
      in_range("validation.local_batch_size", v.data.local_batch_size, 1, kMaxBatch);
    }
    in_range("validation.freq", v.freq, 1, kMaxSteps);
    if (v.steps != -1 && v.steps < 1) {
      report("validation.steps", "validation.steps is ", v.steps, "; it must be at least 1, or -1 for the whole split");
    }
    number("validation.split", v.split, v.split > 0 && v.split <= 0.5, "above 0 and at most 0.5");
  }

  void reporting() {
    in_range("checkpoint.interval", run_.checkpoint.interval, 1, kMaxSteps);
    in_range("metrics.log_freq", run_.log_freq, 1, kMaxSteps);
    profiling();
    number("metrics.peak_flops", run_.peak_flops, run_.peak_flops >= 0 && std::isfinite(run_.peak_flops),
           "a finite number of FLOP/s, or 0 for known devices only");
    in_range("debug.state_digest_freq", run_.state_digest_freq, 0, kMaxSteps);
    in_range("debug.step_delay_ms", run_.step_delay_ms, 0, 3600 * 1000);
    in_range("resources.threads_per_rank", run_.threads_per_rank, 0, 1 << 12);
  }

  void profiling() {
    const ProfilingSpec& p = run_.profiling;
    if (in_range("profiling.profile_freq", p.freq, 1, kMaxSteps)) {
      in_range("profiling.profiler_active", p.active, 1, p.freq);
    }
    // The job's folder also holds step-N.attempt-A and hf.
    const bool plain = !p.folder.empty() && p.folder.find('/') == std::string::npos && p.folder.front() != '.';
    if (!plain || p.folder.starts_with("step-") || p.folder == "hf") {
      report("profiling.save_traces_folder", "profiling.save_traces_folder is \"", p.folder,
             "\"; it must be the name of a new folder inside the job's, as \"profile_traces\"");
    }
  }

  void ordered() {
    if (run_.precision != Precision::kFloat32) {
      report("training.mixed_precision_param",
             "debug.ordered needs float32: set training.mixed_precision_param to \"float32\" or \"auto\"");
    }
    if (run_.reduce_in_bfloat16) {
      report("training.mixed_precision_reduce",
             "debug.ordered needs gradients in float32: set training.mixed_precision_reduce to \"float32\"");
    }
    if (run_.reduce_once && run_.mesh.ep > 1) {
      // An expert's gradients of the k-th microbatches of all its sources are one sum; it cannot be taken apart again.
      report("parallelism.fsdp_reduce", "debug.ordered with expert_parallel_degree ", run_.mesh.ep,
             " needs gradients to be added after every microbatch: set parallelism.fsdp_reduce to \"microbatch\"");
    }
    // The last bits of a product depend on where its operands' rows begin in a cache line, and an expert's rows begin
    // elsewhere among those of other sources.
    const ModelShape& m = run_.model;
    if (run_.mesh.ep > 1 && (m.dim % kFloatsPerCacheLine != 0 || m.expert_hidden % kFloatsPerCacheLine != 0)) {
      report("parallelism.expert_parallel_degree", "debug.ordered with expert_parallel_degree ", run_.mesh.ep,
             " needs a model whose hidden size and experts' hidden size are multiples of ", kFloatsPerCacheLine,
             "; they are ", m.dim, " and ", m.expert_hidden);
    }
    if (run_.threads_per_rank > 1) {
      report("resources.threads_per_rank", "resources.threads_per_rank is ", run_.threads_per_rank,
             ", but debug.ordered needs 1 thread a rank; write 1 or leave it out");
    }
    ordered_degree("data_parallel_replicate_degree", run_.mesh.degree(Axis::kDpReplicate));
    ordered_degree("data_parallel_shard_degree", run_.mesh.degree(Axis::kDpShard));
    ordered_degree("expert_parallel_degree", run_.mesh.ep);
    const int64_t local = run_.data.local_batch_size;
    if (local < 1 || run_.global_batch_size < 1 || run_.global_batch_size % local != 0) return;  // reported above
    const int64_t microbatches = run_.global_batch_size / local;
    const int64_t ranks = run_.mesh.data_parallel_size();
    const bool degrees_to_blame = degrees_are_sane() && !power_of_two(ranks) && power_of_two(microbatches / ranks);
    if (!power_of_two(microbatches) && !degrees_to_blame) {
      report("training.global_batch_size",
             "debug.ordered needs a power of two of microbatches in a step, but "
             "global_batch_size ",
             run_.global_batch_size, " / local_batch_size ", local, " = ", microbatches);
    }
  }

  void ordered_degree(const std::string& key, int64_t degree) {
    if (degree < 1 || power_of_two(degree)) return;
    report("parallelism." + key, "parallelism.", key, " is ", degree, ", but debug.ordered needs a power of two");
  }

  const RunSpec& run_;
  std::vector<Violation> violations_;
};

}  // namespace

std::vector<Violation> check_rules(const RunSpec& run) { return Checker(run).check(); }

}  // namespace qwen3::spec
