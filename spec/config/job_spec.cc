#include "spec/config/job_spec.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <initializer_list>

namespace qwen3::spec::config {
namespace {

// a * b, the largest int64 if it does not fit; both at least 0.
int64_t saturating_multiply(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

// Ranks of the other axes, which divide resources.slots; degrees below 1 are reported by the rules.
int64_t ranks_outside_dp_shard(const v1::ParallelismSection& p) {
  int64_t product = 1;
  for (const int64_t degree : {p.data_parallel_replicate_degree(), p.tensor_parallel_degree(),
                               p.pipeline_parallel_degree(), p.context_parallel_degree()}) {
    product = saturating_multiply(product, std::max<int64_t>(1, degree));
  }
  return product;
}

Mesh mesh_of(const v1::ParallelismSection& p) {
  return {{p.pipeline_parallel_degree(), p.data_parallel_replicate_degree(), p.data_parallel_shard_degree(),
           p.context_parallel_degree(), p.tensor_parallel_degree()}};
}

// The flavor's sizes with the overrides of the spec; of debugmodel for an unknown flavor, so that the other rules can
// still be checked.
ModelShape model_of(const v1::ModelSection& model) {
  const ModelShape* flavor = find_flavor(model.flavor());
  ModelShape shape = flavor != nullptr ? *flavor : *find_flavor("debugmodel");
  if (model.vocab_size() != 0) shape.vocab = model.vocab_size();
  return shape;
}

// Dataset names that set-up provides.
constexpr std::array<std::string_view, 1> kDatasets = {"shakespeare"};

std::string absolute(const std::string& path) {
  return path.empty() ? path : std::filesystem::absolute(path).lexically_normal().string();
}

std::string dataset_path(const v1::JobSpec& spec, const Environment& environment) {
  if (!spec.training().dataset_path().empty()) return absolute(spec.training().dataset_path());
  return absolute(absl::StrCat(environment.data_root, "/datasets/", spec.training().dataset()));
}

std::string tokenizer_path(const v1::ModelSection& model, const Environment& environment) {
  if (!model.tokenizer_path().empty()) return absolute(model.tokenizer_path());
  if (!model.hf_assets_path().empty()) return absolute(absl::StrCat(model.hf_assets_path(), "/tokenizer.json"));
  const ModelShape* flavor = find_flavor(model.flavor());
  const bool small = flavor != nullptr && flavor->vocab == 2048;
  return absolute(absl::StrCat(environment.data_root, "/tokenizers/", small ? "qwen3-2048" : "qwen3", ".tiktoken"));
}

int64_t decay_steps(const v1::LrSchedulerSection& schedule) {
  if (!schedule.has_decay_ratio()) return std::max<int64_t>(0, schedule.total_steps() - schedule.warmup_steps());
  const double ratio = schedule.decay_ratio();
  const double steps = static_cast<double>(schedule.total_steps()) * ratio;
  if (!(ratio >= 0 && ratio <= 1) || !(steps >= 0 && steps <= 1e15)) return 0;  // check() reports ratio and steps
  return static_cast<int64_t>(std::nearbyint(steps));                           // half to even, as Python's round()
}

LrScheduleSpec::Decay decay_of(const std::string& type) {
  if (type == "sqrt") return LrScheduleSpec::Decay::kSqrt;
  if (type == "cosine") return LrScheduleSpec::Decay::kCosine;
  return LrScheduleSpec::Decay::kLinear;
}

Precision precision_of(const v1::JobSpec& spec, const Environment& environment) {
  const std::string& param = spec.training().mixed_precision_param();
  if (param == "bfloat16") return Precision::kBfloat16;
  if (param == "auto" && environment.fast_bfloat16 && !spec.debug().ordered()) return Precision::kBfloat16;
  return Precision::kFloat32;
}

// Checks of what a RunSpec no longer shows: strings, paths, and the sections that only the service reads.
class Checker {
 public:
  Checker(const v1::JobSpec& spec, const Environment& environment) : spec_(spec), environment_(environment) {}

  std::vector<Violation> check() {
    model();
    strings();
    mesh();
    data();
    checkpoint();
    service();
    const std::vector<Violation> rules = check_rules(run_spec_from_job(spec_, environment_));
    violations_.insert(violations_.end(), rules.begin(), rules.end());
    return std::move(violations_);
  }

 private:
  template <typename... Parts>
  void report(std::string field, Parts&&... parts) {
    violations_.push_back({std::move(field), absl::StrCat(std::forward<Parts>(parts)...)});
  }

  void one_of(const std::string& field, const std::string& value, std::initializer_list<const char*> valid) {
    if (std::find(valid.begin(), valid.end(), value) != valid.end()) return;
    report(field, field, " is \"", value, "\"; it must be ", valid.size() > 1 ? "one of " : "", "\"",
           absl::StrJoin(valid, "\", \""), "\"");
  }

  void model() {
    one_of("model.name", spec_.model().name(), {"qwen3"});
    if (find_flavor(spec_.model().flavor()) != nullptr) return;
    const auto all = flavors();
    const std::string names =
        absl::StrJoin(all, ", ", [](std::string* out, const ModelShape& shape) { absl::StrAppend(out, shape.flavor); });
    if (!spec_.model().has_flavor()) {
      report("model.flavor", "model.flavor is missing; write one of ", names);
    } else {
      report("model.flavor", "model.flavor is \"", spec_.model().flavor(), "\"; it must be one of ", names);
    }
  }

  void strings() {
    one_of("optimizer.name", spec_.optimizer().name(), {"AdamW"});
    one_of("lr_scheduler.decay_type", spec_.lr_scheduler().decay_type(), {"linear", "sqrt", "cosine"});
    one_of("training.dtype", spec_.training().dtype(), {"float32"});
    one_of("training.mixed_precision_param", spec_.training().mixed_precision_param(), {"auto", "bfloat16", "float32"});
    one_of("training.mixed_precision_reduce", spec_.training().mixed_precision_reduce(), {"float32"});
    one_of("parallelism.fsdp_reshard_after_forward", spec_.parallelism().fsdp_reshard_after_forward(),
           {"default", "always", "never"});
    one_of("checkpoint.export_dtype", spec_.checkpoint().export_dtype(), {"float32", "bfloat16", "float16"});
    one_of("checkpoint.async_mode", spec_.checkpoint().async_mode(), {"async", "disabled"});
    one_of("activation_checkpoint.mode", spec_.activation_checkpoint().mode(),
           {"none", "full", "selective", "memory_budget"});
    const double ratio = spec_.lr_scheduler().decay_ratio();
    if (spec_.lr_scheduler().has_decay_ratio() && !(ratio >= 0 && ratio <= 1)) {
      report("lr_scheduler.decay_ratio", "lr_scheduler.decay_ratio is ", ratio,
             "; it must be between 0 and 1, a share of total_steps");
    }
  }

  void mesh() {
    const v1::ParallelismSection& p = spec_.parallelism();
    const int64_t slots = spec_.resources().slots();
    if (p.expert_parallel_degree() != 1) {
      report("parallelism.expert_parallel_degree", "parallelism.expert_parallel_degree is ", p.expert_parallel_degree(),
             ", but expert parallelism is not supported yet; it must be 1");
    }
    if (slots < 1) {
      report("resources.slots", "resources.slots is ", slots, "; it must be at least 1, one rank each");
      return;
    }
    const int64_t ranks =
        saturating_multiply(ranks_outside_dp_shard(p), std::max<int64_t>(1, p.data_parallel_shard_degree()));
    if (ranks == slots) return;
    report("parallelism", "parallelism: dp_replicate ", p.data_parallel_replicate_degree(), " * dp_shard ",
           p.data_parallel_shard_degree(), " * cp ", p.context_parallel_degree(), " * tp ", p.tensor_parallel_degree(),
           " * pp ", p.pipeline_parallel_degree(), " = ", ranks, ", but resources.slots is ", slots);
  }

  // `set_up`: the path is one that set-up makes, so the sentence says so.
  void exists(const std::string& field, const std::string& what, const std::string& path, bool set_up) {
    std::error_code error;
    if (std::filesystem::exists(path, error)) return;
    report(field, what, " ", path, " does not exist on this machine",
           set_up ? "; run setup/install.sh, or give a path of your own" : "");
  }

  bool is_absolute(const std::string& field, const std::string& path) {
    if (std::filesystem::path(path).is_absolute()) return true;
    report(field, field, " is \"", path, "\"; a service needs an absolute path");
    return false;
  }

  // A text that `field` names, if it does.
  void text(const std::string& field, const std::string& path) {
    if (path.empty() || !is_absolute(field, path)) return;
    if (absl::EndsWith(path, ".parquet")) {
      report(field, field, " is \"", path, "\"; Parquet is not read, write .jsonl, .txt or either with .gz or .zst");
      return;
    }
    exists(field, field, path, /*set_up=*/false);
  }

  void data() {
    text("training.dataset_path", spec_.training().dataset_path());
    text("validation.dataset_path", spec_.validation().dataset_path());
    if (spec_.training().dataset_path().empty()) dataset();

    const v1::ModelSection& model = spec_.model();
    const bool own = !model.tokenizer_path().empty();
    const bool assets = !own && !model.hf_assets_path().empty();
    const std::string field = own ? "model.tokenizer_path" : assets ? "model.hf_assets_path" : "model.flavor";
    if (own || assets) {
      if (!is_absolute(field, own ? model.tokenizer_path() : model.hf_assets_path())) return;
    } else if (environment_.data_root.empty()) {
      report("model.tokenizer_path", "no tokenizer: set-up's folder (data root) is not known here, so ",
             "model.tokenizer_path or model.hf_assets_path must name one");
      return;
    }
    exists(field, absl::StrCat(field, ": tokenizer"), tokenizer_path(model, environment_), !own && !assets);
  }

  void dataset() {
    const std::string& name = spec_.training().dataset();
    if (std::find(kDatasets.begin(), kDatasets.end(), name) == kDatasets.end()) {
      report("training.dataset", "training.dataset is \"", name, "\"; ",
             absl::StartsWith(name, "c4") ? "C4 is not fetched from the Hugging Face Hub here, write "
                                          : "the only dataset known by name is \"shakespeare\", write that or ",
             "dataset_path = \"/path/to/text\" (.txt or .jsonl, also .gz or .zst, or a folder of them)",
             absl::StartsWith(name, "c4") ? ", or dataset = \"shakespeare\"" : "");
    } else if (environment_.data_root.empty()) {
      report("training.dataset", "training.dataset \"", name,
             "\": set-up's folder (data root) is not known here; write "
             "training.dataset_path");
    } else {
      exists("training.dataset", absl::StrCat("training.dataset \"", name, "\":"), dataset_path(spec_, environment_),
             /*set_up=*/true);
    }
  }

  void checkpoint() {
    const v1::CheckpointSection& c = spec_.checkpoint();
    if (c.keep_latest_k() == 1) {
      report("checkpoint.keep_latest_k",
             "checkpoint.keep_latest_k is 1: the only checkpoint would be pruned while the "
             "next is being written; write 2 or more, or 0 to keep all");
    } else if (c.keep_latest_k() < 0) {
      report("checkpoint.keep_latest_k", "checkpoint.keep_latest_k is ", c.keep_latest_k(),
             "; it must be 2 or more, or 0 to keep all");
    }
    const std::filesystem::path folder = c.folder();
    if (folder.empty() || folder.is_absolute() || std::find(folder.begin(), folder.end(), "..") != folder.end()) {
      report("checkpoint.folder", "checkpoint.folder is \"", c.folder(),
             "\"; it must be a relative path without \"..\", inside the service's checkpoint root");
    }
    const std::string& from = c.initial_load_path();
    if (from.empty() || absl::StartsWith(from, "tenants/")) return;
    if (is_absolute("checkpoint.initial_load_path", from)) {
      exists("checkpoint.initial_load_path", "checkpoint.initial_load_path", from, /*set_up=*/false);
    }
  }

  void service() {
    if (spec_.retry().max_infra_retries() < 0) {
      report("retry.max_infra_retries", "retry.max_infra_retries is ", spec_.retry().max_infra_retries(),
             "; it must be at least 0");
    }
    if (spec_.retry().max_attempts_without_progress() < 1) {
      report("retry.max_attempts_without_progress", "retry.max_attempts_without_progress is ",
             spec_.retry().max_attempts_without_progress(), "; it must be at least 1");
    }
  }

  const v1::JobSpec& spec_;
  const Environment& environment_;
  std::vector<Violation> violations_;
};

}  // namespace

// Sets section's field unless it is there.
#define QWEN3_DEFAULT(section, field, value) \
  if (!(section)->has_##field()) (section)->set_##field(value)

void fill_defaults(v1::JobSpec& spec) {
  auto* job = spec.mutable_job();
  QWEN3_DEFAULT(job, description, "");

  auto* model = spec.mutable_model();
  QWEN3_DEFAULT(model, name, "qwen3");
  QWEN3_DEFAULT(model, hf_assets_path, "");
  QWEN3_DEFAULT(model, tokenizer_path, "");
  QWEN3_DEFAULT(model, vocab_size, 0);

  auto* optimizer = spec.mutable_optimizer();
  const OptimizerSpec adamw;
  QWEN3_DEFAULT(optimizer, name, "AdamW");
  QWEN3_DEFAULT(optimizer, lr, adamw.lr);
  QWEN3_DEFAULT(optimizer, beta1, adamw.beta1);
  QWEN3_DEFAULT(optimizer, beta2, adamw.beta2);
  QWEN3_DEFAULT(optimizer, eps, adamw.eps);
  QWEN3_DEFAULT(optimizer, weight_decay, adamw.weight_decay);

  auto* debug = spec.mutable_debug();
  QWEN3_DEFAULT(debug, seed, 0);
  QWEN3_DEFAULT(debug, ordered, false);
  QWEN3_DEFAULT(debug, step_delay_ms, 0);

  auto* resources = spec.mutable_resources();
  QWEN3_DEFAULT(resources, slots, 1);
  QWEN3_DEFAULT(resources, threads_per_rank, debug->ordered() ? 1 : 0);

  auto* parallelism = spec.mutable_parallelism();
  QWEN3_DEFAULT(parallelism, data_parallel_replicate_degree, 1);
  QWEN3_DEFAULT(parallelism, data_parallel_shard_degree, -1);
  QWEN3_DEFAULT(parallelism, fsdp_reshard_after_forward, "default");
  QWEN3_DEFAULT(parallelism, tensor_parallel_degree, 1);
  QWEN3_DEFAULT(parallelism, pipeline_parallel_degree, 1);
  QWEN3_DEFAULT(parallelism, context_parallel_degree, 1);
  QWEN3_DEFAULT(parallelism, expert_parallel_degree, 1);
  if (parallelism->data_parallel_shard_degree() == -1) {
    const int64_t rest = resources->slots() / ranks_outside_dp_shard(*parallelism);
    parallelism->set_data_parallel_shard_degree(std::max<int64_t>(1, rest));
  }

  auto* training = spec.mutable_training();
  QWEN3_DEFAULT(training, dataset, "shakespeare");
  QWEN3_DEFAULT(training, dataset_path, "");
  QWEN3_DEFAULT(training, local_batch_size, 8);
  QWEN3_DEFAULT(training, global_batch_size, -1);
  QWEN3_DEFAULT(training, seq_len, 2048);
  QWEN3_DEFAULT(training, max_norm, 1.0);
  QWEN3_DEFAULT(training, steps, 10000);
  QWEN3_DEFAULT(training, dtype, "float32");
  QWEN3_DEFAULT(training, mixed_precision_param, "auto");
  QWEN3_DEFAULT(training, mixed_precision_reduce, "float32");
  if (training->global_batch_size() == -1) {
    int64_t batch = std::max<int64_t>(1, training->local_batch_size());
    batch = saturating_multiply(batch, std::max<int64_t>(1, parallelism->data_parallel_replicate_degree()));
    batch = saturating_multiply(batch, std::max<int64_t>(1, parallelism->data_parallel_shard_degree()));
    training->set_global_batch_size(batch);
  }

  auto* schedule = spec.mutable_lr_scheduler();
  QWEN3_DEFAULT(schedule, total_steps, training->steps());
  QWEN3_DEFAULT(schedule, warmup_steps, std::clamp<int64_t>(schedule->total_steps(), 0, 200));
  QWEN3_DEFAULT(schedule, decay_type, "linear");
  QWEN3_DEFAULT(schedule, min_lr_factor, 0.0);

  auto* checkpoint = spec.mutable_checkpoint();
  QWEN3_DEFAULT(checkpoint, enable, true);
  QWEN3_DEFAULT(checkpoint, folder, "checkpoint");
  QWEN3_DEFAULT(checkpoint, interval, 500);
  QWEN3_DEFAULT(checkpoint, initial_load_path, "");
  QWEN3_DEFAULT(checkpoint, initial_load_model_only, true);
  QWEN3_DEFAULT(checkpoint, last_save_in_hf, false);
  QWEN3_DEFAULT(checkpoint, export_dtype, "float32");
  QWEN3_DEFAULT(checkpoint, keep_latest_k, 10);
  QWEN3_DEFAULT(checkpoint, async_mode, "async");

  QWEN3_DEFAULT(spec.mutable_activation_checkpoint(), mode, "none");

  auto* validation = spec.mutable_validation();
  QWEN3_DEFAULT(validation, enable, false);
  QWEN3_DEFAULT(validation, dataset_path, "");
  QWEN3_DEFAULT(validation, local_batch_size, training->local_batch_size());
  QWEN3_DEFAULT(validation, seq_len, training->seq_len());
  QWEN3_DEFAULT(validation, freq, 10);
  QWEN3_DEFAULT(validation, steps, -1);
  QWEN3_DEFAULT(validation, split, 0.02);

  auto* metrics = spec.mutable_metrics();
  QWEN3_DEFAULT(metrics, log_freq, 1);
  QWEN3_DEFAULT(metrics, peak_flops, 0.0);

  auto* retry = spec.mutable_retry();
  QWEN3_DEFAULT(retry, max_infra_retries, 10);
  QWEN3_DEFAULT(retry, max_attempts_without_progress, 3);
}

#undef QWEN3_DEFAULT

void make_paths_absolute(v1::JobSpec& spec, const std::string& base) {
  const auto resolve = [&](std::string* path) {
    if (!path->empty()) *path = absolute((std::filesystem::path(base) / *path).string());
  };
  if (spec.model().has_hf_assets_path()) resolve(spec.mutable_model()->mutable_hf_assets_path());
  if (spec.model().has_tokenizer_path()) resolve(spec.mutable_model()->mutable_tokenizer_path());
  if (spec.training().has_dataset_path()) resolve(spec.mutable_training()->mutable_dataset_path());
  if (spec.validation().has_dataset_path()) resolve(spec.mutable_validation()->mutable_dataset_path());
  if (spec.checkpoint().has_initial_load_path() &&
      !absl::StartsWith(spec.checkpoint().initial_load_path(), "tenants/")) {
    resolve(spec.mutable_checkpoint()->mutable_initial_load_path());
  }
}

std::vector<Violation> check(const v1::JobSpec& spec, const Environment& environment) {
  return Checker(spec, environment).check();
}

RunSpec run_spec_from_job(const v1::JobSpec& spec, const Environment& environment) {
  RunSpec run;
  run.model = model_of(spec.model());

  const v1::OptimizerSection& optimizer = spec.optimizer();
  run.optimizer = {optimizer.lr(),           optimizer.beta1(),
                   optimizer.beta2(),        optimizer.eps(),
                   optimizer.weight_decay(), {optimizer.no_decay().begin(), optimizer.no_decay().end()}};

  const v1::LrSchedulerSection& schedule = spec.lr_scheduler();
  run.lr_schedule = {schedule.warmup_steps(), schedule.total_steps(), decay_steps(schedule),
                     decay_of(schedule.decay_type()), schedule.min_lr_factor()};

  const v1::TrainingSection& training = spec.training();
  run.data = {dataset_path(spec, environment), tokenizer_path(spec.model(), environment), training.local_batch_size(),
              training.seq_len()};
  run.mesh = mesh_of(spec.parallelism());
  run.global_batch_size = training.global_batch_size();
  const int64_t sequences =
      saturating_multiply(std::max<int64_t>(1, training.local_batch_size()),
                          saturating_multiply(std::max<int64_t>(1, spec.parallelism().data_parallel_replicate_degree()),
                                              std::max<int64_t>(1, spec.parallelism().data_parallel_shard_degree())));
  run.microbatches_per_rank = run.global_batch_size / sequences;
  run.steps = training.steps();
  run.max_norm = training.max_norm();
  run.precision = precision_of(spec, environment);
  run.reshard_after_forward = spec.parallelism().fsdp_reshard_after_forward() != "never";

  const v1::CheckpointSection& checkpoint = spec.checkpoint();
  run.checkpoint = {checkpoint.enable(),
                    checkpoint.interval(),
                    checkpoint.async_mode() == "async",
                    checkpoint.initial_load_model_only(),
                    checkpoint.last_save_in_hf(),
                    checkpoint.export_dtype()};

  const v1::ValidationSection& validation = spec.validation();
  run.validation = {
      validation.enable(),
      {absolute(validation.dataset_path()), run.data.tokenizer, validation.local_batch_size(), validation.seq_len()},
      validation.freq(),
      validation.steps(),
      validation.split()};

  run.log_freq = spec.metrics().log_freq();
  run.peak_flops = spec.metrics().peak_flops();
  run.seed = spec.debug().seed();
  run.ordered = spec.debug().ordered();
  run.step_delay_ms = spec.debug().step_delay_ms();
  run.threads_per_rank = spec.resources().threads_per_rank();
  return run;
}

}  // namespace qwen3::spec::config
