#include "client/format/split.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace qwen3::client {

double wait_seconds(const v1::StepSplit& split) {
  double seconds = 0;
  for (const auto& [axis, wait] : split.wait_seconds()) seconds += wait;
  return seconds;
}

double total_seconds(const v1::StepSplit& split) {
  return split.compute_seconds() + split.optimizer_seconds() + split.data_seconds() + split.other_seconds() +
         wait_seconds(split);
}

std::string split_text(const v1::StepSplit& split) {
  const double total = total_seconds(split);
  const auto part = [&](const std::string& name, double seconds) {
    return absl::StrFormat("%s %.3f (%.0f%%)", name, seconds, total > 0 ? 100 * seconds / total : 0);
  };
  std::string text = absl::StrFormat("%.3f s: %s", total, part("compute", split.compute_seconds()));
  const std::map<std::string, double> waits(split.wait_seconds().begin(), split.wait_seconds().end());  // in order
  for (const auto& [axis, seconds] : waits) absl::StrAppend(&text, ", ", part(absl::StrCat("wait ", axis), seconds));
  absl::StrAppend(&text, ", ", part("optimizer", split.optimizer_seconds()), ", ", part("data", split.data_seconds()),
                  ", ", part("other", split.other_seconds()));
  return text;
}

}  // namespace qwen3::client
