#include "spec/config/job_spec.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "spec/activation_checkpoint.h"
#include "spec/config/init.h"

namespace qwen3::spec::config {
namespace {

Mesh mesh_of(const v1::ParallelismSection& p) {
  return {{p.pipeline_parallel_degree(), p.data_parallel_replicate_degree(), p.data_parallel_shard_degree(),
           p.context_parallel_degree(), p.tensor_parallel_degree()},
          p.expert_parallel_degree()};
}

// The mesh with what is not a degree, -1 or a mistake that check() reports, taken as 1.
Mesh positive(Mesh mesh) {
  for (int64_t& degree : mesh.degrees) degree = std::max<int64_t>(1, degree);
  return mesh;
}

// The sizes of config.json, or the flavor's with the overrides of the spec; of debugmodel where check() reports that
// neither can be had, so that the other rules can still be checked.
ModelShape model_of(const v1::ModelSection& model) {
  if (const std::string folder = hf_folder(model.init()); !folder.empty()) {
    if (absl::StatusOr<ModelShape> shape = hf_model(folder); shape.ok()) {
      if (shape->flavor.empty()) shape->flavor = "custom";
      return *shape;
    }
  }
  const ModelShape* flavor = find_flavor(model.flavor());
  ModelShape shape = flavor != nullptr ? *flavor : *find_flavor("debugmodel");
  if (model.vocab_size() != 0) shape.vocab = model.vocab_size();
  return shape;
}

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
  if (const std::string folder = hf_folder(model.init()); !folder.empty()) return absolute(folder + "/tokenizer.json");
  const ModelShape* flavor = find_flavor(model.flavor());
  const bool small = flavor != nullptr && flavor->vocab == 2048;
  return absolute(absl::StrCat(environment.data_root, "/tokenizers/", small ? "qwen3-2048" : "qwen3", ".tiktoken"));
}

int64_t decay_steps(const v1::LrSchedulerSection& schedule) {
  if (!schedule.has_decay_ratio()) {
    const int64_t total = std::max<int64_t>(0, schedule.total_steps());
    return total - std::clamp<int64_t>(schedule.warmup_steps(), 0, total);
  }
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

MoeSpec moe_of(const v1::MoeSection& moe, bool force_load_balance) {
  return {.router = moe.router() == "hf_exact" ? MoeSpec::Router::kHfExact : MoeSpec::Router::kFloat32,
          .expert_bias = moe.expert_bias(),
          .expert_bias_load = moe.expert_bias_load(),
          .expert_bias_update = moe.expert_bias_update(),
          .load_balance_coeff = moe.load_balance_coeff(),
          .aux_loss_coeff = moe.aux_loss_coeff(),
          .aux_loss_scope = moe.aux_loss_scope() == "global_batch" ? MoeSpec::AuxLossScope::kGlobalBatch
                                                                   : MoeSpec::AuxLossScope::kMicrobatch,
          .force_load_balance = force_load_balance};
}

// A number out of range or a name that no block has is left to check_rules.
ActivationCheckpoint activation_checkpoint_of(const v1::ActivationCheckpointSection& section, const ModelShape& model) {
  using Mode = ActivationCheckpoint::Mode;
  ActivationCheckpoint spec;
  spec.mode = section.mode() == "full"            ? Mode::kFull
              : section.mode() == "selective"     ? Mode::kSelective
              : section.mode() == "memory_budget" ? Mode::kMemoryBudget
                                                  : Mode::kNone;
  spec.memory_budget = section.memory_budget();
  const std::string& option = section.selective_ac_option();
  int64_t n = 0;
  if (absl::SimpleAtoi(option, &n)) {
    spec.every_nth_block = n;
    return spec;
  }
  spec.every_nth_block.reset();
  if (option == "op") {
    const auto results = block_results(model);
    for (const std::string_view name : op_results()) {
      if (std::find(results.begin(), results.end(), name) != results.end()) spec.kept.emplace_back(name);
    }
  } else {
    for (const absl::string_view name : absl::StrSplit(option, ',')) {
      spec.kept.emplace_back(absl::StripAsciiWhitespace(name));
    }
  }
  return spec;
}

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
  QWEN3_DEFAULT(model, init, "random");

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
  QWEN3_DEFAULT(debug, moe_force_load_balance, false);
  QWEN3_DEFAULT(debug, state_digest_freq, 0);

  auto* moe = spec.mutable_moe();
  const MoeSpec routing;
  QWEN3_DEFAULT(moe, router, "float32");
  QWEN3_DEFAULT(moe, expert_bias, routing.expert_bias);
  QWEN3_DEFAULT(moe, expert_bias_load, routing.expert_bias_load);
  QWEN3_DEFAULT(moe, expert_bias_update, routing.expert_bias_update);
  QWEN3_DEFAULT(moe, load_balance_coeff, routing.load_balance_coeff);
  QWEN3_DEFAULT(moe, aux_loss_coeff, routing.aux_loss_coeff);
  QWEN3_DEFAULT(moe, aux_loss_scope, "microbatch");

  auto* resources = spec.mutable_resources();
  QWEN3_DEFAULT(resources, slots, 1);
  QWEN3_DEFAULT(resources, threads_per_rank, debug->ordered() ? 1 : 0);

  auto* parallelism = spec.mutable_parallelism();
  QWEN3_DEFAULT(parallelism, data_parallel_replicate_degree, 1);
  QWEN3_DEFAULT(parallelism, data_parallel_shard_degree, -1);
  QWEN3_DEFAULT(parallelism, fsdp_reshard_after_forward, "default");
  QWEN3_DEFAULT(parallelism, fsdp_reduce, "microbatch");
  QWEN3_DEFAULT(parallelism, tensor_parallel_degree, 1);
  QWEN3_DEFAULT(parallelism, pipeline_parallel_degree, 1);
  QWEN3_DEFAULT(parallelism, context_parallel_degree, 1);
  QWEN3_DEFAULT(parallelism, expert_parallel_degree, 1);
  QWEN3_DEFAULT(parallelism, disable_loss_parallel, false);
  QWEN3_DEFAULT(parallelism, enable_async_tensor_parallel, false);
  QWEN3_DEFAULT(parallelism, enable_sequence_parallel, true);
  if (parallelism->data_parallel_shard_degree() == -1) {
    const int64_t others = positive(mesh_of(*parallelism)).world_size();
    parallelism->set_data_parallel_shard_degree(std::max<int64_t>(1, resources->slots() / others));
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
  QWEN3_DEFAULT(training, prompt_key, "");
  QWEN3_DEFAULT(training, response_key, "response");
  if (training->global_batch_size() == -1) {
    const int64_t ranks = positive(mesh_of(*parallelism)).data_parallel_size();
    const int64_t batch = saturating_multiply(std::max<int64_t>(1, training->local_batch_size()), ranks);
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
  QWEN3_DEFAULT(checkpoint, keep_best_k, 0);

  auto* activation_checkpoint = spec.mutable_activation_checkpoint();
  QWEN3_DEFAULT(activation_checkpoint, mode, "none");
  QWEN3_DEFAULT(activation_checkpoint, selective_ac_option, "2");
  QWEN3_DEFAULT(activation_checkpoint, memory_budget, ActivationCheckpoint().memory_budget);

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

  auto* profiling = spec.mutable_profiling();
  const ProfilingSpec traces;
  QWEN3_DEFAULT(profiling, enable_profiling, traces.enable);
  QWEN3_DEFAULT(profiling, save_traces_folder, traces.folder);
  QWEN3_DEFAULT(profiling, profile_freq, traces.freq);
  QWEN3_DEFAULT(profiling, profiler_active, traces.active);

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
  if (std::string folder = hf_folder(spec.model().init()); !folder.empty()) {
    resolve(&folder);
    spec.mutable_model()->set_init("hf:" + folder);
  }
  if (spec.model().has_tokenizer_path()) resolve(spec.mutable_model()->mutable_tokenizer_path());
  if (spec.training().has_dataset_path()) resolve(spec.mutable_training()->mutable_dataset_path());
  if (spec.validation().has_dataset_path()) resolve(spec.mutable_validation()->mutable_dataset_path());
  if (spec.checkpoint().has_initial_load_path() &&
      !absl::StartsWith(spec.checkpoint().initial_load_path(), "tenants/")) {
    resolve(spec.mutable_checkpoint()->mutable_initial_load_path());
  }
}

RunSpec run_spec_from_job(const v1::JobSpec& spec, const Environment& environment) {
  RunSpec run;
  run.model = model_of(spec.model());
  run.init_hf_folder = hf_folder(spec.model().init());
  run.moe = moe_of(spec.moe(), spec.debug().moe_force_load_balance());

  const v1::OptimizerSection& optimizer = spec.optimizer();
  run.optimizer = {optimizer.lr(),           optimizer.beta1(),
                   optimizer.beta2(),        optimizer.eps(),
                   optimizer.weight_decay(), {optimizer.no_decay().begin(), optimizer.no_decay().end()}};

  const v1::LrSchedulerSection& schedule = spec.lr_scheduler();
  run.lr_schedule = {schedule.warmup_steps(), schedule.total_steps(), decay_steps(schedule),
                     decay_of(schedule.decay_type()), schedule.min_lr_factor()};

  const v1::TrainingSection& training = spec.training();
  run.data = {dataset_path(spec, environment), tokenizer_path(spec.model(), environment),
              training.local_batch_size(),     training.seq_len(),
              training.prompt_key(),           training.response_key()};
  run.mesh = mesh_of(spec.parallelism());
  run.global_batch_size = training.global_batch_size();
  const int64_t sequences =
      saturating_multiply(std::max<int64_t>(1, training.local_batch_size()), positive(run.mesh).data_parallel_size());
  run.microbatches_per_rank = run.global_batch_size / sequences;
  run.steps = training.steps();
  run.max_norm = training.max_norm();
  run.precision = precision_of(spec, environment);
  run.reduce_once = spec.parallelism().fsdp_reduce() == "step";
  run.reduce_in_bfloat16 = training.mixed_precision_reduce() == "bfloat16";
  run.reshard_after_forward = spec.parallelism().fsdp_reshard_after_forward() != "never";
  run.sequence_parallel = spec.parallelism().enable_sequence_parallel();
  run.loss_parallel = !spec.parallelism().disable_loss_parallel();
  run.async_tensor_parallel = spec.parallelism().enable_async_tensor_parallel();

  run.activation_checkpoint = activation_checkpoint_of(spec.activation_checkpoint(), run.model);

  const v1::CheckpointSection& checkpoint = spec.checkpoint();
  run.checkpoint = {checkpoint.enable(),
                    checkpoint.interval(),
                    checkpoint.async_mode() == "async",
                    checkpoint.initial_load_model_only(),
                    checkpoint.last_save_in_hf(),
                    checkpoint.export_dtype()};

  const v1::ValidationSection& validation = spec.validation();
  run.validation = {validation.enable(),
                    {absolute(validation.dataset_path()), run.data.tokenizer, validation.local_batch_size(),
                     validation.seq_len(), training.prompt_key(), training.response_key()},
                    validation.freq(),
                    validation.steps(),
                    validation.split()};

  const v1::ProfilingSection& profiling = spec.profiling();
  run.profiling = {profiling.enable_profiling(), profiling.save_traces_folder(), profiling.profile_freq(),
                   profiling.profiler_active()};

  run.log_freq = spec.metrics().log_freq();
  run.peak_flops = spec.metrics().peak_flops();
  run.seed = spec.debug().seed();
  run.ordered = spec.debug().ordered();
  run.step_delay_ms = spec.debug().step_delay_ms();
  run.state_digest_freq = spec.debug().state_digest_freq();
  run.threads_per_rank = spec.resources().threads_per_rank();
  return run;
}

}  // namespace qwen3::spec::config
