// The commands of qwen3ctl, one file each. client/arguments.cc declares their command lines and fills the options.
// Each returns the exit status (client/exit_code.h); an error status is printed and mapped by the caller.
#pragma once
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/context.h"

namespace qwen3::client {

using Result = absl::StatusOr<int>;

struct SubmitOptions {
  std::string file;
  std::vector<std::string> set;  // "section.key=value"
  std::string job_id;            // empty: the server makes one
  std::string request_id;        // empty: random
  bool watch = false;
  bool dry_run = false;
  bool quiet = false;
};
Result submit(Context& context, const SubmitOptions& options);

Result list(Context& context, int limit);
Result describe(Context& context, const std::string& job);
Result watch(Context& context, const std::string& job);

struct LogsOptions {
  std::string job;
  bool follow = false;
  std::vector<int> ranks;  // empty: all
};
Result logs(Context& context, const LogsOptions& options);
Result metrics(Context& context, const std::string& job, bool follow);
Result events(Context& context, const std::string& job, bool follow);
Result checkpoints(Context& context, const std::string& job);

struct TraceOptions {
  std::string job;
  int64_t steps = 1;
  std::string output;      // file; empty: trace-JOB.json
  std::string request_id;  // empty: random
};
// The ranks' files must be seen from here: on the host of the local service, or where the checkpoint root is mounted.
Result trace(Context& context, const TraceOptions& options);

Result cancel(Context& context, const std::string& job, const std::string& request_id);
Result wait(Context& context, const std::string& job, absl::Duration timeout);
Result workers(Context& context);
Result version(Context& context);

struct TokenizeOptions {
  std::string tokenizer;  // file; empty: the whole Qwen3 vocabulary that set-up made
  bool decode = false;
};
Result tokenize(Context& context, const TokenizeOptions& options);

struct DownloadOptions {
  std::string repository;  // "Qwen/Qwen3-0.6B"
  std::vector<std::string> assets = {"tokenizer", "config", "weights"};
  std::string to;  // folder; empty: DATA_ROOT/assets/hf/NAME
  std::string revision = "main";
};
Result download_repository(Context& context, const DownloadOptions& options);

// Of the commands that start a task.
struct TaskOptions {
  std::string request_id;  // empty: random
  bool detach = false;     // print the operation's name and return
};

struct EvaluateOptions : TaskOptions {
  std::string model;   // "hf:DIR", "native:DIR" or a checkpoint; see model_source()
  std::string tokens;  // file; or
  std::string text;    // file or folder
  std::string dtype = "float32";
  std::vector<std::string> write = {"loss"};
  std::string folder;            // of what is written
  std::string tokenizer;         // file; empty: the model's
  std::vector<std::string> set;  // "parallelism.KEY=VALUE", "resources.KEY=VALUE"
  int64_t seq_len = 0, local_batch_size = 0, steps = 0;
};
Result evaluate(Context& context, const EvaluateOptions& options);

struct ConvertOptions : TaskOptions {
  std::string from;   // as EvaluateOptions::model
  std::string to;     // "hf:DIR" or "native:DIR"
  std::string dtype;  // empty: the source's
};
Result convert(Context& context, const ConvertOptions& options);

struct VerifyOptions : TaskOptions {
  std::string source;  // as EvaluateOptions::model
};
Result verify(Context& context, const VerifyOptions& options);

struct ParityOptions {
  std::string model;      // Hugging Face folder
  std::string reference;  // file; empty: parity.safetensors in the folder, or our own float64 evaluation
  std::string tokens;     // file; for an evaluation of our own; empty: random tokens
  std::string dtype = "float32";
  std::string work_dir;          // empty: a temporary folder
  std::vector<std::string> set;  // as EvaluateOptions::set
  double max_kl = -1;            // -1: parity_limits() of the dtype
  double max_difference = -1;
};
Result parity(Context& context, const ParityOptions& options);

Result operations_list(Context& context, int limit);
Result operations_get(Context& context, const std::string& operation);
Result operations_wait(Context& context, const std::string& operation, absl::Duration timeout);
Result operations_cancel(Context& context, const std::string& operation);

struct LocalOptions {
  std::string dir;      // empty: local::default_dir()
  std::string bin_dir;  // empty: the folder of qwen3ctl
  int workers = 1;
  int slots = 1;
};
Result local_up(Context& context, const LocalOptions& options);
Result local_down(Context& context, const LocalOptions& options);
Result local_status(Context& context, const LocalOptions& options);
Result local_supervise(const LocalOptions& options);

// Shared by submit --watch and watch: shows the job live until it is terminal, then its results. Ctrl-C detaches.
// REQUIRES: `interrupt` was made before the process had other threads.
class Interrupt;
Result follow(Context& context, Interrupt& interrupt, const std::string& job);

// The exit status for a watch that ended with `status`: of the status, or kDetached with a line on how to come back.
Result end_of_watch(Context& context, const absl::Status& status, const std::string& command);

}  // namespace qwen3::client
