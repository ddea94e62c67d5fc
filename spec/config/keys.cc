#include "spec/config/keys.h"

#include <algorithm>

namespace qwen3::spec::config {
namespace {

constexpr auto kNoEffect = KeyUse::kNoEffect;
constexpr auto kRefused = KeyUse::kRefused;

constexpr std::string_view kFolders = "the service decides where a job's files lie; see qwen3ctl describe";
constexpr std::string_view kNoTracker = "no tracker is fed yet; read metrics with qwen3ctl metrics";
constexpr std::string_view kNoSnapshot = "there is no memory snapshot yet; step reports have the peak of tensor memory";
constexpr std::string_view kNoPython = "there is no Python in a run, so no module can be loaded; remove the key";
constexpr std::string_view kNoCollector = "there is no garbage collector to run";
constexpr std::string_view kLoader = "tokens are memory-mapped; there are no loader workers to tune";
constexpr std::string_view kNoPp = "pipeline parallelism is not supported yet";
constexpr std::string_view kNoCp = "context parallelism is not supported yet";
constexpr std::string_view kNoHfLoad =
    "write init = \"hf:FOLDER\" in [model] to start from Hugging Face weights; initial_load_path takes a checkpoint of "
    "another job";
constexpr std::string_view kNoCompiler = "nothing is compiled; the engine runs fixed kernels";
constexpr std::string_view kNoQuantization =
    "low-precision training is not supported yet; use mixed_precision_param = \"bfloat16\" in [training]";
constexpr std::string_view kNoQuantizedLayer = "nothing is quantized, so no layer needs to be named";
constexpr std::string_view kTimeouts = "the service's leases find lost ranks; there is no timeout per collective";
constexpr std::string_view kNoRecorder =
    "every rank keeps its last collectives in memory and logs them when a peer is lost";
constexpr std::string_view kRetries =
    "restarts are the service's: a lost rank or worker starts a new attempt; see [retry]";
constexpr std::string_view kDryRun = "the plan shows bytes per rank: qwen3ctl submit --dry-run";

// Sorted as in torchtitan's JobConfig.
constexpr TorchtitanKey kKeys[] = {
    {"job.config_file", kNoEffect, "", "the file is the one that is being read"},
    {"job.dump_folder", kNoEffect, "", kFolders},
    {"job.print_config", kNoEffect, "false", "qwen3ctl describe shows the configuration of every job"},
    {"job.save_config_file", kNoEffect, "\"\"", "the configuration is stored with the job and in every checkpoint"},
    {"job.custom_config_module", kRefused, "\"\"", kNoPython},

    {"profiling.profiler_warmup", kNoEffect, "",
     "a trace needs no warm-up; its steps are the last of every profile_freq"},
    {"profiling.enable_memory_snapshot", kNoEffect, "false", kNoSnapshot},
    {"profiling.save_memory_snapshot_folder", kNoEffect, "", kNoSnapshot},

    {"metrics.enable_tensorboard", kNoEffect, "false", kNoTracker},
    {"metrics.disable_color_printing", kNoEffect, "", "log records carry no color"},
    {"metrics.save_tb_folder", kNoEffect, "", kNoTracker},
    {"metrics.save_for_all_ranks", kNoEffect, "", "metrics are global; logs are kept of every rank"},
    {"metrics.enable_wandb", kRefused, "false",
     "Weights & Biases is not fed yet; write false, and read metrics with qwen3ctl metrics"},

    {"model.converters", kRefused, "[]", kNoQuantization},
    {"model.print_after_conversion", kNoEffect, "false", "no model converter exists"},

    {"optimizer.implementation", kNoEffect, "\"fused\"", "AdamW is always the fused one"},
    {"optimizer.early_step_in_backward", kRefused, "false",
     "gradients are clipped by their global norm, which needs all of them before a step; remove the key"},

    {"training.enable_cpu_offload", kRefused, "false",
     "offloading to host memory is not supported yet; raise data_parallel_shard_degree in [parallelism]"},
    {"training.gc_freq", kNoEffect, "", kNoCollector},
    {"training.gc_debug", kNoEffect, "false", kNoCollector},
    {"training.dataloader.num_workers", kNoEffect, "", kLoader},
    {"training.dataloader.persistent_workers", kNoEffect, "", kLoader},
    {"training.dataloader.pin_memory", kNoEffect, "", kLoader},
    {"training.dataloader.prefetch_factor", kNoEffect, "", kLoader},

    {"parallelism.module_fqns_per_model_part", kRefused, "[]",
     "pipeline parallelism is not supported yet; remove the key"},
    {"parallelism.pipeline_parallel_first_stage_less_layers", kNoEffect, "", kNoPp},
    {"parallelism.pipeline_parallel_last_stage_less_layers", kNoEffect, "", kNoPp},
    {"parallelism.pipeline_parallel_layers_per_stage", kNoEffect, "", kNoPp},
    {"parallelism.pipeline_parallel_schedule", kNoEffect, "", kNoPp},
    {"parallelism.pipeline_parallel_schedule_csv", kRefused, "\"\"",
     "pipeline parallelism is not supported yet; remove the key"},
    {"parallelism.pipeline_parallel_microbatch_size", kNoEffect, "", kNoPp},
    {"parallelism.pipeline_parallel_expert_parallel_overlap", kNoEffect, "", kNoPp},
    {"parallelism.context_parallel_load_balancer", kNoEffect, "", kNoCp},
    {"parallelism.context_parallel_rotate_method", kNoEffect, "", kNoCp},
    {"parallelism.expert_tensor_parallel_degree", kRefused, "1",
     "experts are divided along expert_parallel_degree or, where that is 1, along tensor_parallel_degree; remove the "
     "key"},
    {"parallelism.expert_parallel_comm_backend", kRefused, "\"standard\"",
     "rows travel by the all-to-all of the ranks' group alone; remove the key"},

    {"checkpoint.enable_ft_dataloader_checkpoints", kNoEffect, "", kRetries},
    {"checkpoint.initial_load_in_hf", kRefused, "false", kNoHfLoad},
    {"checkpoint.initial_load_in_hf_quantized", kRefused, "false", kNoHfLoad},
    {"checkpoint.last_save_model_only", kNoEffect, "false", "the last checkpoint holds the optimizer's state too"},
    {"checkpoint.load_step", kRefused, "-1",
     "a restart resumes from the last committed checkpoint; to start from another one name it in initial_load_path"},
    {"checkpoint.exclude_from_loading", kRefused, "[]",
     "a warm start takes weights only (initial_load_model_only = true) or everything (false)"},
    {"checkpoint.enable_first_step_checkpoint", kRefused, "false",
     "checkpoints are written every `interval` steps and at the end; write interval = 1 for one after the first step"},
    {"checkpoint.create_seed_checkpoint", kRefused, "false",
     "initial weights are the same on every mesh, so no seed checkpoint is needed; remove the key"},
    {"checkpoint.load_only", kRefused, "false",
     "the last step is always checkpointed; write enable = false for no others"},

    {"activation_checkpoint.per_op_sac_force_recompute_mm_shapes_by_fqns", kNoEffect, "",
     "results are kept by their names, see selective_ac_option; a product alone has none"},
    {"activation_checkpoint.early_stop", kNoEffect, "false", "a group of segments runs again to its end"},
    {"activation_checkpoint.visualize_memory_budget_pareto", kNoEffect, "false",
     "the plan shows the bytes of one budget: qwen3ctl submit --dry-run"},
    {"activation_checkpoint.preserve_rng_state", kNoEffect, "", "nothing in a block is random"},
    {"activation_checkpoint.determinism_check", kNoEffect, "", "a block that runs again computes the same bits"},
    {"activation_checkpoint.debug", kNoEffect, "false", "nothing is recorded of what runs again"},

    {"compile.enable", kNoEffect, "false", kNoCompiler},
    {"compile.components", kNoEffect, "", kNoCompiler},
    {"compile.backend", kNoEffect, "", kNoCompiler},

    {"quantize.linear.float8.enable_fsdp_float8_all_gather", kRefused, "false", kNoQuantization},
    {"quantize.linear.float8.precompute_float8_dynamic_scale_for_fsdp", kRefused, "false", kNoQuantization},
    {"quantize.linear.float8.recipe_name", kRefused, "", kNoQuantization},
    {"quantize.linear.float8.filter_fqns", kNoEffect, "[]", kNoQuantizedLayer},
    {"quantize.linear.float8.emulate", kRefused, "false", kNoQuantization},
    {"quantize.linear.mx.mxfp8_dim1_cast_kernel_choice", kRefused, "\"triton\"", kNoQuantization},
    {"quantize.linear.mx.recipe_name", kRefused, "\"mxfp8_cublas\"", kNoQuantization},
    {"quantize.linear.mx.filter_fqns", kNoEffect, "[\"output\"]", kNoQuantizedLayer},
    {"quantize.grouped_mm.float8.fqns", kRefused, "[]|\"\"", kNoQuantization},
    {"quantize.grouped_mm.mx.recipe_name", kRefused, "\"mxfp8\"", kNoQuantization},
    {"quantize.grouped_mm.mx.fqns", kRefused, "[]|\"\"", kNoQuantization},

    {"comm.init_timeout_seconds", kNoEffect, "", kTimeouts},
    {"comm.train_timeout_seconds", kNoEffect, "", kTimeouts},
    {"comm.trace_buf_size", kNoEffect, "", kNoRecorder},
    {"comm.save_traces_folder", kNoEffect, "", kNoRecorder},
    {"comm.save_traces_file_prefix", kNoEffect, "", kNoRecorder},
    {"comm.mode", kRefused, "\"default\"",
     "ranks always communicate for real; to see a plan without devices use "
     "qwen3ctl submit --dry-run"},

    {"memory_estimation.enable", kRefused, "false", kDryRun},
    {"memory_estimation.disable_fake_mode", kNoEffect, "", kDryRun},

    {"fault_tolerance.enable", kRefused, "false", kRetries},
    {"fault_tolerance.process_group", kNoEffect, "", kRetries},
    {"fault_tolerance.process_group_timeout_ms", kNoEffect, "", kRetries},
    {"fault_tolerance.replica_id", kNoEffect, "", kRetries},
    {"fault_tolerance.group_size", kNoEffect, "", kRetries},
    {"fault_tolerance.min_replica_size", kNoEffect, "", kRetries},
    {"fault_tolerance.semi_sync_method", kRefused, "\"\"", "every step is synchronous; remove the key"},

    {"experimental.custom_import", kRefused, "\"\"", kNoPython},
    {"experimental.custom_args_module", kRefused, "\"\"", kNoPython},

    {"validation.dataset", kRefused, "",
     "write dataset_path = \"/path/to/text\", or nothing: then the last `split` of the training text is held out"},
    {"validation.dataloader.num_workers", kNoEffect, "", kLoader},
    {"validation.dataloader.persistent_workers", kNoEffect, "", kLoader},
    {"validation.dataloader.pin_memory", kNoEffect, "", kLoader},
    {"validation.dataloader.prefetch_factor", kNoEffect, "", kLoader},

    {"debug.deterministic", kNoEffect, "false",
     "a mesh always computes the same run; ordered = true makes it the same on every mesh"},
    {"debug.deterministic_warn_only", kNoEffect, "false", "see debug.ordered"},
};

}  // namespace

std::span<const TorchtitanKey> torchtitan_keys() { return kKeys; }

const TorchtitanKey* find_torchtitan_key(std::string_view path) {
  const auto* const found =
      std::find_if(std::begin(kKeys), std::end(kKeys), [&](const TorchtitanKey& key) { return key.path == path; });
  return found == std::end(kKeys) ? nullptr : found;
}

}  // namespace qwen3::spec::config
