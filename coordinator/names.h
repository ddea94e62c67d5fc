// Resource names (AIP-122) and what they are made of.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace qwen3::coordinator {

inline constexpr std::string_view kParent = "tenants/default";

// 1-63 of [a-z0-9-], starting with a letter.
bool is_job_id(std::string_view id);
// 1-63 of [a-z0-9-].
bool is_worker_id(std::string_view id);

std::string job_name(std::string_view id);        // "tenants/default/jobs/ID"
std::string job_id(std::string_view name);        // ID of a valid name; empty: not a job's name
std::string operation_name(std::string_view id);  // "tenants/default/operations/ID": of a task
std::string operation_id(std::string_view name);  // ID of a valid name; empty: not an operation's name
std::string record_id(std::string_view name);     // of a job or an operation, for its files: no two share one; or empty
const char* noun(std::string_view name);          // "operation" or "job", for messages
std::string worker_name(std::string_view id);     // "workers/ID"
std::string attempt_name(std::string_view job, int32_t attempt);
std::string checkpoint_name(std::string_view job, int64_t step);

struct CheckpointName {
  std::string job;
  int64_t step = 0;
};
std::optional<CheckpointName> parse_checkpoint_name(std::string_view name);

// Folder of one checkpoint in its job's folder: "step-N.attempt-A".
struct CheckpointFolder {
  int64_t step = 0;
  int32_t attempt = 0;
};
std::string checkpoint_folder_name(int64_t step, int32_t attempt);
std::optional<CheckpointFolder> parse_checkpoint_folder(std::string_view folder);

}  // namespace qwen3::coordinator
