#include "coordinator/names.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_cat.h"

namespace qwen3::coordinator {
namespace {

constexpr std::string_view kJobs = "tenants/default/jobs/";
constexpr std::string_view kOperations = "tenants/default/operations/";

absl::string_view as_absl(std::string_view text) { return {text.data(), text.size()}; }

bool is_id(std::string_view id) {
  return !id.empty() && id.size() <= 63 &&
         std::ranges::all_of(id, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

template <class Int>
bool parse_positive(std::string_view text, Int& value) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size() && value >= 0 && (text.size() == 1 || text[0] != '0');
}

}  // namespace

bool is_job_id(std::string_view id) { return is_id(id) && id[0] >= 'a' && id[0] <= 'z'; }
bool is_worker_id(std::string_view id) { return is_id(id); }

std::string job_name(std::string_view id) { return absl::StrCat(as_absl(kJobs), as_absl(id)); }

std::string job_id(std::string_view name) {
  if (!name.starts_with(kJobs)) return "";
  const std::string_view id = name.substr(kJobs.size());
  return is_job_id(id) ? std::string(id) : "";
}

std::string operation_name(std::string_view id) { return absl::StrCat(as_absl(kOperations), as_absl(id)); }

std::string operation_id(std::string_view name) {
  if (!name.starts_with(kOperations)) return "";
  const std::string_view id = name.substr(kOperations.size());
  return is_job_id(id) ? std::string(id) : "";
}

std::string record_id(std::string_view name) {
  if (std::string id = job_id(name); !id.empty()) return id;
  const std::string id = operation_id(name);
  return id.empty() ? "" : absl::StrCat("operation.", id);  // no job's id has a dot
}

const char* noun(std::string_view name) { return name.starts_with(kOperations) ? "operation" : "job"; }

std::string worker_name(std::string_view id) { return absl::StrCat("workers/", as_absl(id)); }

std::string attempt_name(std::string_view job, int32_t attempt) {
  return absl::StrCat(as_absl(job), "/attempts/", attempt);
}

std::string checkpoint_name(std::string_view job, int64_t step) {
  return absl::StrCat(as_absl(job), "/checkpoints/step-", step);
}

std::optional<CheckpointName> parse_checkpoint_name(std::string_view name) {
  constexpr std::string_view kPart = "/checkpoints/step-";
  const size_t at = name.find(kPart);
  if (at == std::string_view::npos) return std::nullopt;
  CheckpointName parsed{.job = std::string(name.substr(0, at))};
  if (job_id(parsed.job).empty() || !parse_positive(name.substr(at + kPart.size()), parsed.step)) return std::nullopt;
  return parsed;
}

std::string checkpoint_folder_name(int64_t step, int32_t attempt) {
  return absl::StrCat("step-", step, ".attempt-", attempt);
}

std::optional<CheckpointFolder> parse_checkpoint_folder(std::string_view folder) {
  constexpr std::string_view kStep = "step-", kAttempt = ".attempt-";
  const size_t at = folder.find(kAttempt);
  if (!folder.starts_with(kStep) || at == std::string_view::npos) return std::nullopt;
  CheckpointFolder parsed;
  if (!parse_positive(folder.substr(kStep.size(), at - kStep.size()), parsed.step) ||
      !parse_positive(folder.substr(at + kAttempt.size()), parsed.attempt)) {
    return std::nullopt;
  }
  return parsed;
}

}  // namespace qwen3::coordinator
