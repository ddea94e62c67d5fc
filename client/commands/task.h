// What the commands that start a task share: naming a model, following the operation, printing its end.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/commands/commands.h"
#include "google/longrunning/operations.pb.h"
#include "qwen3/v1/operation.pb.h"

namespace qwen3::client {

// "hf:DIR" and "native:DIR" with the folder made absolute; else a checkpoint: a resource name, "JOB" or "JOB/step-N".
absl::StatusOr<v1::ModelSource> model_source(const std::string& text);
std::string absolute_path(const std::string& path);  // empty stays empty

// Reads "parallelism.KEY=VALUE" and "resources.KEY=VALUE" into the sections of an evaluation.
absl::Status apply_overrides(const std::vector<std::string>& set, v1::EvaluationSpec& spec);

v1::TaskMetadata metadata_of(const google::longrunning::Operation& operation);
// "evaluation", "conversion" or "verification".
std::string kind_of(const v1::TaskMetadata& metadata);

// Shows the operation on stderr until it is done, through restarts of the coordinator. CANCELLED: Ctrl-C, the operation
// goes on (end_of_task says so); DEADLINE_EXCEEDED: `timeout` has passed.
absl::StatusOr<google::longrunning::Operation> follow_operation(Context& context, Interrupt& interrupt,
                                                                const google::longrunning::Operation& operation,
                                                                absl::Duration timeout = absl::InfiniteDuration());

// What a command returns for an operation it followed: prints result or error (as JSON the whole operation).
Result end_of_task(Context& context, const std::string& name,
                   const absl::StatusOr<google::longrunning::Operation>& operation);

// Starts by `start`, then follows or, with --detach, names the operation.
Result run_task(Context& context, const TaskOptions& options,
                const std::function<absl::StatusOr<google::longrunning::Operation>(Client&)>& start);

}  // namespace qwen3::client
