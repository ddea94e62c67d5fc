#include "coordinator/task_submission.h"

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "checkpoint/manifest.h"
#include "checkpoint/safetensors.h"
#include "coordinator/names.h"
#include "spec/config/job_spec.h"

namespace qwen3::coordinator {
namespace {

namespace fs = std::filesystem;
using internal::v1::StoredTask;
using spec::Violation;

constexpr int64_t kMaxSequence = 1 << 24;  // tokens; larger ones are typing errors
constexpr int64_t kMaxSteps = int64_t{1} << 40;

// Collects what is wrong, each with the path of its field in the request.
class Violations {
 public:
  template <typename... Parts>
  void add(const std::string& field, Parts&&... parts) {
    all_.push_back({field, absl::StrCat(field, std::forward<Parts>(parts)...)});
  }
  std::vector<Violation>& all() { return all_; }

 private:
  std::vector<Violation> all_;
};

// False and a violation: not an absolute path.
bool is_absolute(const std::string& field, const std::string& path, Violations& violations) {
  if (fs::path(path).is_absolute()) return true;
  violations.add(field, " is \"", path, "\"; a service needs an absolute path");
  return false;
}

// The canonical folder, which must hold a file of this name; empty and a violation otherwise.
std::string folder_with(const std::string& field, const std::string& path, const char* file, const char* what,
                        Violations& violations) {
  if (!is_absolute(field, path, violations)) return "";
  std::error_code error;
  const fs::path folder = fs::canonical(path, error);
  if (error) {
    violations.add(field, " is \"", path, "\": ", error.message());
  } else if (!fs::is_directory(folder, error)) {
    violations.add(field, " is \"", path, "\", which is not a folder");
  } else if (!fs::exists(folder / file, error)) {
    violations.add(field, " is \"", path, "\", which has no ", file, ": it is not ", what);
  } else {
    return folder.string();
  }
  return "";
}

// A job's checkpoint by its resource name or, for the newest, the job's.
void resolve_checkpoint(const std::string& field, const std::string& name, const SubmissionContext& context,
                        StoredTask& task, Violations& violations) {
  std::string checkpoint = name;
  if (!job_id(name).empty()) {
    const auto job = context.reader->job(name);
    if (!job.ok()) return violations.add(field, ": ", absl::string_view(job.status().message()));
    checkpoint = job->job().latest_checkpoint();
    if (checkpoint.empty()) return violations.add(field, " is \"", name, "\", which has no committed checkpoint yet");
  }
  const auto parsed = parse_checkpoint_name(checkpoint);
  if (!parsed) {
    return violations.add(field, " is \"", name,
                          "\"; it must be tenants/default/jobs/ID or tenants/default/jobs/ID/checkpoints/step-N");
  }
  const auto known = context.reader->checkpoints(parsed->job);
  for (size_t i = 0; known.ok() && i < known->size(); ++i) {
    const v1::Checkpoint& candidate = (*known)[i];
    if (candidate.step() != parsed->step || candidate.state() != v1::CHECKPOINT_STATE_COMMITTED) continue;
    task.set_checkpoint(checkpoint);
    task.mutable_source()->set_native(candidate.folder());
    std::error_code error;
    if (!fs::exists(fs::path(candidate.folder()) / checkpoint::kManifestName, error)) {
      violations.add(field, " is \"", name, "\", whose folder ", candidate.folder(), " is gone");
    }
    return;
  }
  violations.add(field, ": there is no committed checkpoint \"", checkpoint, "\"");
}

void resolve_source(const std::string& field, const v1::ModelSource& source, const SubmissionContext& context,
                    StoredTask& task, Violations& violations) {
  switch (source.source_case()) {
    case v1::ModelSource::kHf:
      task.mutable_source()->set_hf(
          folder_with(field + ".hf", source.hf(), "config.json", "a Hugging Face checkpoint", violations));
      return;
    case v1::ModelSource::kNative:
      task.mutable_source()->set_native(folder_with(field + ".native", source.native(), checkpoint::kManifestName,
                                                    "a committed checkpoint", violations));
      return;
    case v1::ModelSource::kCheckpoint:
      return resolve_checkpoint(field + ".checkpoint", source.checkpoint(), context, task, violations);
    case v1::ModelSource::SOURCE_NOT_SET:
      violations.add(field, " names no weights; set exactly one of hf, native and checkpoint");
  }
}

void one_of(const std::string& field, const std::string& value, std::initializer_list<const char*> valid,
            Violations& violations) {
  if (std::ranges::find(valid, value) != valid.end()) return;
  violations.add(field, " is \"", value, "\"; it must be one of \"", absl::StrJoin(valid, "\", \""), "\"");
}

void in_range(const std::string& field, int64_t value, int64_t high, Violations& violations) {
  if (value >= 0 && value <= high) return;
  violations.add(field, " is ", value, "; it must be at ", value < 0 ? "least 0" : absl::StrCat("most ", high));
}

// int64 `ids` [B, S] and, if they are there, `labels` and `positions` of the same shape.
void check_tokens(const std::string& field, const std::string& path, Violations& violations) {
  if (!is_absolute(field, path, violations)) return;
  const auto header = checkpoint::read_safetensors_header(path);
  if (!header.ok()) return violations.add(field, ": ", absl::string_view(header.status().message()));
  const auto ids = header->tensors.find("ids");
  if (ids == header->tensors.end()) {
    return violations.add(field, " ", path, " has no tensor \"ids\"; it must hold int64 ids [B, S]");
  }
  const std::vector<int64_t>& shape = ids->second.shape;
  if (ids->second.dtype != checkpoint::Dtype::kInt64 || shape.size() != 2 || shape[0] < 1 || shape[1] < 1) {
    violations.add(field, " ", path, ": \"ids\" is ", checkpoint::dtype_name(ids->second.dtype), " [",
                   absl::StrJoin(shape, ", "), "]; it must be I64 [B, S]");
  }
  for (const char* name : {"labels", "positions"}) {
    const auto other = header->tensors.find(name);
    if (other == header->tensors.end()) continue;
    if (other->second.dtype == checkpoint::Dtype::kInt64 && other->second.shape == shape) continue;
    violations.add(field, " ", path, ": \"", name, "\" is ", checkpoint::dtype_name(other->second.dtype), " [",
                   absl::StrJoin(other->second.shape, ", "), "]; it must be I64 [", absl::StrJoin(shape, ", "),
                   "] as \"ids\"");
  }
}

void check_data(v1::EvaluationSpec& spec, Violations& violations) {
  const bool text = spec.data_case() == v1::EvaluationSpec::kTextPath;
  std::error_code error;
  if (spec.data_case() == v1::EvaluationSpec::DATA_NOT_SET) {
    violations.add("evaluation", " has no data; set exactly one of tokens_file and text_path");
  } else if (!text) {
    check_tokens("evaluation.tokens_file", spec.tokens_file(), violations);
  } else if (is_absolute("evaluation.text_path", spec.text_path(), violations) &&
             !fs::exists(spec.text_path(), error)) {
    violations.add("evaluation.text_path", " ", spec.text_path(), " does not exist");
  }
  in_range("evaluation.seq_len", spec.seq_len(), kMaxSequence, violations);
  in_range("evaluation.local_batch_size", spec.local_batch_size(), kMaxSequence, violations);
  in_range("evaluation.steps", spec.steps(), kMaxSteps, violations);
  if (!spec.tokenizer_path().empty() && is_absolute("evaluation.tokenizer_path", spec.tokenizer_path(), violations) &&
      !fs::exists(spec.tokenizer_path(), error)) {
    violations.add("evaluation.tokenizer_path", " ", spec.tokenizer_path(), " does not exist");
  }
  if (text || spec.data_case() == v1::EvaluationSpec::DATA_NOT_SET) return;
  for (const auto& [field, set] :
       {std::pair("evaluation.seq_len", spec.seq_len() != 0), std::pair("evaluation.steps", spec.steps() != 0),
        std::pair("evaluation.tokenizer_path", !spec.tokenizer_path().empty())}) {
    if (set) violations.add(field, " is for text; a tokens file says everything itself");
  }
}

// An absolute folder that may be made: the nearest parent that exists is a folder.
bool may_be_folder(const std::string& field, const std::string& path, Violations& violations) {
  if (!is_absolute(field, path, violations)) return false;
  fs::path existing = fs::path(path).lexically_normal();
  std::error_code error;
  while (!fs::exists(existing, error) && existing.has_relative_path()) existing = existing.parent_path();
  if (fs::is_directory(existing, error)) return true;
  violations.add(field, " is \"", path, "\", but ", existing.string(), " is not a folder");
  return false;
}

void check_output(const v1::EvaluationSpec& spec, Violations& violations) {
  const bool writes = spec.write_logits() || spec.write_gradients();
  if (writes && spec.output_folder().empty()) {
    violations.add("evaluation.output_folder", " is empty, but logits or gradients are to be written");
  } else if (!writes && !spec.output_folder().empty()) {
    violations.add("evaluation.output_folder", " is \"", spec.output_folder(),
                   "\", but nothing is to be written; set write_logits or write_gradients");
  } else if (writes) {
    may_be_folder("evaluation.output_folder", spec.output_folder(), violations);
  }
}

// What a job of the source says of itself; null when the source is no job's checkpoint.
std::optional<v1::JobSpec> spec_of_source(const StoredTask& task, const SubmissionContext& context) {
  const auto checkpoint = parse_checkpoint_name(task.checkpoint());
  if (!checkpoint) return std::nullopt;
  const auto job = context.reader->job(checkpoint->job);
  return job.ok() ? std::optional(job->job().spec()) : std::nullopt;
}

// The mesh by the rules of a job's. Without `resources.slots` the degrees say how many there are.
void check_mesh(v1::EvaluationSpec& evaluation, const std::optional<v1::JobSpec>& source,
                const SubmissionContext& context, v1::Job& record, Violations& violations) {
  v1::JobSpec spec;
  spec.mutable_model()->set_flavor("debugmodel");
  if (source) *spec.mutable_model() = source->model();
  *spec.mutable_parallelism() = evaluation.parallelism();
  *spec.mutable_resources() = evaluation.resources();
  if (!spec.resources().has_slots()) {
    const v1::ParallelismSection& p = spec.parallelism();
    int64_t slots = 1;
    for (const auto& [set, degree] :
         {std::pair(p.has_data_parallel_replicate_degree(), p.data_parallel_replicate_degree()),
          std::pair(p.has_data_parallel_shard_degree(), p.data_parallel_shard_degree()),
          std::pair(p.has_tensor_parallel_degree(), p.tensor_parallel_degree()),
          std::pair(p.has_pipeline_parallel_degree(), p.pipeline_parallel_degree()),
          std::pair(p.has_context_parallel_degree(), p.context_parallel_degree())}) {
      if (set && degree > 1) slots = spec::saturating_multiply(slots, degree);
    }
    spec.mutable_resources()->set_slots(slots);
  }
  spec::config::fill_defaults(spec);
  const spec::config::Environment environment{.fast_bfloat16 = context.fast_bfloat16, .data_root = context.data_root};
  for (const Violation& violation : spec::config::check(spec, environment)) {
    if (!absl::StartsWith(violation.field, "parallelism") && !absl::StartsWith(violation.field, "resources")) continue;
    violations.all().push_back({absl::StrCat("evaluation.", violation.field), violation.message});
  }
  *evaluation.mutable_parallelism() = spec.parallelism();
  *evaluation.mutable_resources() = spec.resources();
  *record.mutable_spec()->mutable_parallelism() = spec.parallelism();
  *record.mutable_spec()->mutable_resources() = spec.resources();
  record.mutable_plan()->set_world_size(spec::config::run_spec_from_job(spec, environment).mesh.world_size());
}

// Where a conversion writes: not where it reads, and over nothing but an earlier result of its kind.
void check_target(const v1::ConversionSpec& spec, const StoredTask& task, Violations& violations) {
  const bool hf = spec.has_hf();
  const std::string field = hf ? "conversion.hf" : "conversion.native";
  const std::string& to = hf ? spec.hf() : spec.native();
  if (!may_be_folder(field, to, violations)) return;
  std::error_code error;
  const std::string mark = hf ? "config.json" : checkpoint::kManifestName;
  if (fs::exists(to, error) && !fs::is_empty(to, error) && !fs::exists(fs::path(to) / mark, error)) {
    violations.add(field, " is \"", to, "\", a folder that holds other things (no ", mark,
                   "); name one that does not exist");
  }
  const fs::path from = task.source().has_hf() ? task.source().hf() : task.source().native();
  const fs::path target = fs::weakly_canonical(to, error);
  if (from.empty() || target.empty()) return;
  const auto [at_from, at_target] = std::mismatch(from.begin(), from.end(), target.begin(), target.end());
  if (at_from == from.end() || at_target == target.end()) {
    violations.add(field, " is \"", to, "\", which is, holds or lies in the source ", from.string());
  }
}

NewJob new_task(const std::string& request_id, const std::string& digest) {
  NewJob job{.request_id = request_id, .digest = digest};
  job.stored.mutable_job()->set_name(operation_name(random_id("op-")));
  job.stored.mutable_job()->mutable_plan()->set_world_size(1);
  return job;
}

template <class Request>
std::string digest_of(const Request& request) {
  Request body = request;
  body.clear_request_id();
  return message_digest(body);
}

}  // namespace

absl::StatusOr<NewJob> check_task(const v1::EvaluateRequest& request, const SubmissionContext& context) {
  if (absl::Status status = check_state_disk(context.state_dir); !status.ok()) return status;
  Violations violations;
  check_envelope(request.parent(), request.request_id(), violations.all());
  NewJob job = new_task(request.request_id(), digest_of(request));
  StoredTask& task = *job.stored.mutable_task();
  v1::EvaluationSpec& spec = *task.mutable_evaluation();
  spec = request.evaluation();
  if (spec.dtype().empty()) spec.set_dtype("float32");
  one_of("evaluation.dtype", spec.dtype(), {"float64", "float32", "bfloat16"}, violations);
  resolve_source("evaluation.model", spec.model(), context, task, violations);
  check_data(spec, violations);
  check_output(spec, violations);
  const std::optional<v1::JobSpec> source = spec_of_source(task, context);
  check_mesh(spec, source, context, *job.stored.mutable_job(), violations);
  if (source && spec.has_text_path() && spec.tokenizer_path().empty()) {
    spec.set_tokenizer_path(spec::config::run_spec_from_job(*source, {.data_root = context.data_root}).data.tokenizer);
  }
  if (!violations.all().empty()) return bad_request(violations.all());
  return job;
}

absl::StatusOr<NewJob> check_task(const v1::ConvertRequest& request, const SubmissionContext& context) {
  if (absl::Status status = check_state_disk(context.state_dir); !status.ok()) return status;
  Violations violations;
  check_envelope(request.parent(), request.request_id(), violations.all());
  NewJob job = new_task(request.request_id(), digest_of(request));
  StoredTask& task = *job.stored.mutable_task();
  v1::ConversionSpec& spec = *task.mutable_conversion();
  spec = request.conversion();
  resolve_source("conversion.from", spec.from(), context, task, violations);
  if (spec.to_case() == v1::ConversionSpec::TO_NOT_SET) {
    violations.add("conversion", " does not say where to; set exactly one of hf and native");
  } else {
    check_target(spec, task, violations);
  }
  if (spec.has_native() && !spec.dtype().empty() && spec.dtype() != "float32") {
    violations.add("conversion.dtype", " is \"", spec.dtype(), "\", but native checkpoints are always \"float32\"");
  } else if (!spec.dtype().empty()) {
    one_of("conversion.dtype", spec.dtype(), {"float32", "bfloat16", "float16"}, violations);
  }
  if (!violations.all().empty()) return bad_request(violations.all());
  return job;
}

absl::StatusOr<NewJob> check_task(const v1::VerifyRequest& request, const SubmissionContext& context) {
  if (absl::Status status = check_state_disk(context.state_dir); !status.ok()) return status;
  Violations violations;
  check_envelope(request.parent(), request.request_id(), violations.all());
  NewJob job = new_task(request.request_id(), digest_of(request));
  StoredTask& task = *job.stored.mutable_task();
  *task.mutable_conversion()->mutable_from() = request.source();
  resolve_source("source", request.source(), context, task, violations);
  if (!violations.all().empty()) return bad_request(violations.all());
  return job;
}

}  // namespace qwen3::coordinator
