#include "client/format/text.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace qwen3::client {
namespace {

std::string without_prefix(const std::string& name, std::string_view prefix) {
  return name.compare(0, prefix.size(), prefix) == 0 ? name.substr(prefix.size()) : name;
}

}  // namespace

std::string state_word(v1::JobState state) { return without_prefix(v1::JobState_Name(state), "JOB_STATE_"); }
std::string state_word(v1::WorkerState state) { return without_prefix(v1::WorkerState_Name(state), "WORKER_STATE_"); }
std::string state_word(v1::CheckpointState state) {
  return without_prefix(v1::CheckpointState_Name(state), "CHECKPOINT_STATE_");
}

std::string time_text(const google::protobuf::Timestamp& time) {
  if (time.seconds() == 0 && time.nanos() == 0) return "-";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixSeconds(time.seconds()), absl::UTCTimeZone());
}

std::string duration_text(absl::Duration duration) {
  const int64_t seconds = absl::ToInt64Seconds(duration + absl::Milliseconds(500));
  if (seconds < 60) return absl::StrCat(seconds, "s");
  if (seconds < 3600) return absl::StrFormat("%dm%02ds", seconds / 60, seconds % 60);
  return absl::StrFormat("%dh%02dm", seconds / 3600, seconds / 60 % 60);
}

std::string bytes_text(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 5) value /= 1024, ++unit;
  return unit == 0 ? absl::StrCat(bytes, " B") : absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string failure_text(const v1::Failure& failure) {
  std::vector<std::string> where;
  if (failure.rank() >= 0) where.push_back(absl::StrCat("rank ", failure.rank()));
  if (!failure.worker().empty()) where.push_back(failure.worker());
  if (failure.step() > 0) where.push_back(absl::StrCat("step ", failure.step()));
  const std::string text = absl::StrCat(without_prefix(v1::FailureClass_Name(failure.class_()), "FAILURE_CLASS_"), "(",
                                        failure.reason(), "): ", failure.message());
  return where.empty() ? text : absl::StrCat(text, " [", absl::StrJoin(where, ", "), "]");
}

std::string printable(std::string_view line) {
  std::string result;
  for (const char c : line) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7f) {
      absl::StrAppend(&result, absl::StrFormat("\\x%02x", byte));
    } else {
      result.push_back(c);
    }
  }
  return result;
}

}  // namespace qwen3::client
