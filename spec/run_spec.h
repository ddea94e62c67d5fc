// What the engine needs to know of a job: plain structs, defaults filled in, names resolved. Made from the wire's
// JobSpec by spec/config (run_spec_from_job). Field meanings are those of qwen3/v1/job_spec.proto.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "spec/flavor.h"
#include "spec/mesh.h"

namespace qwen3::spec {

enum class Precision { kFloat32, kBfloat16, kFloat64 };  // dtype of compute; float64 is for tests only

struct OptimizerSpec {
  double lr = 8e-4;
  double beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  std::vector<std::string> no_decay;  // name patterns, '*' is any run of characters
};

struct LrScheduleSpec {
  enum class Decay { kLinear, kSqrt, kCosine };
  int64_t warmup_steps = 200;
  int64_t total_steps = 0;
  int64_t decay_steps = 0;  // the last decay_steps of total_steps decay
  Decay decay = Decay::kLinear;
  double min_factor = 0;
};

struct DataSpec {
  std::string path;       // file or folder of text; resolved, absolute
  std::string tokenizer;  // tokenizer.json or .tiktoken; resolved, absolute
  int64_t local_batch_size = 8;
  int64_t seq_len = 2048;
  std::string prompt_key;    // JSON lines of a prompt and the response to train on; empty: plain text
  std::string response_key;  // used with a prompt_key
};

struct CheckpointSpec {
  bool enable = true;
  int64_t interval = 500;
  bool async = true;
  bool initial_load_model_only = true;
  bool last_save_in_hf = false;
  std::string export_dtype = "float32";
};

struct ValidationSpec {
  bool enable = false;
  DataSpec data;  // data.path empty: the held-out part of the training text
  int64_t freq = 10;
  int64_t steps = -1;
  double split = 0.02;
};

// How a mixture of experts routes and stays balanced; unused by dense models.
struct MoeSpec {
  enum class Router { kFloat32, kHfExact };
  enum class AuxLossScope { kMicrobatch, kGlobalBatch };
  Router router = Router::kFloat32;
  bool expert_bias = true;         // the choice of experts is by score + a bias that balances the load
  bool expert_bias_load = true;    // a warm start takes the bias of its checkpoint
  bool expert_bias_update = true;  // each step moves the bias
  double load_balance_coeff = 1e-3;
  double aux_loss_coeff = 0;
  AuxLossScope aux_loss_scope = AuxLossScope::kMicrobatch;
  bool force_load_balance = false;  // round robin instead of the router's choice, for benchmarks
};

// Which of a block's results stay for backward; the others are computed again there (spec/activation_checkpoint.h).
struct ActivationCheckpoint {
  enum class Mode { kNone, kFull, kSelective, kMemoryBudget };
  Mode mode = Mode::kNone;
  // kSelective: every n-th block is recomputed whole; without an n, every block keeps the results named.
  std::optional<int64_t> every_nth_block = 2;
  std::vector<std::string> kept;
  double memory_budget = 0.5;  // kMemoryBudget: share of the bytes that stay without recomputation
};

// Traces of the last `active` of every `freq` steps.
struct ProfilingSpec {
  bool enable = false;
  std::string folder = "profile_traces";  // inside the job's
  int64_t freq = 10;
  int64_t active = 1;
};

struct RunSpec {
  ModelShape model;
  std::string init_hf_folder;  // Hugging Face folder of the first weights, absolute; empty: random weights
  MoeSpec moe;
  OptimizerSpec optimizer;
  LrScheduleSpec lr_schedule;
  DataSpec data;
  int64_t global_batch_size = 8;      // sequences; resolved
  int64_t microbatches_per_rank = 1;  // K
  int64_t steps = 10000;
  double max_norm = 1.0;                      // 0: no clipping
  Precision precision = Precision::kFloat32;  // "auto" resolved
  Mesh mesh;
  bool sequence_parallel = true;  // under tensor parallelism: activations between blocks are cut along the sequence
  bool loss_parallel = true;      // and the loss is taken of logits that stay cut over the vocabulary
  bool async_tensor_parallel = false;  // and communication overlaps with multiplication
  bool reshard_after_forward = true;
  bool reduce_once = false;         // FSDP adds whole gradients over the microbatches of a step and exchanges them once
  bool reduce_in_bfloat16 = false;  // gradients travel so between ranks; they are added in float32
  ActivationCheckpoint activation_checkpoint;
  CheckpointSpec checkpoint;
  ValidationSpec validation;
  ProfilingSpec profiling;
  int64_t log_freq = 1;
  double peak_flops = 0;
  uint64_t seed = 0;
  bool ordered = false;
  int64_t step_delay_ms = 0;
  int64_t state_digest_freq = 0;  // 0: no step report has a digest
  int64_t threads_per_rank = 0;   // 0: not decided
};

}  // namespace qwen3::spec
