#include "worker/daemon/rank_environment.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "qwen3/internal/v1/rank.pb.h"

namespace qwen3::worker {
namespace {

// The device of a slot: the slot-th of those this daemon itself may use; none for a rank without a slot.
std::string visible_device(int slot, const char* visible_to_daemon) {
  if (slot < 0) return "";
  if (visible_to_daemon == nullptr || *visible_to_daemon == '\0') return absl::StrCat(slot);
  const std::vector<std::string> devices = absl::StrSplit(visible_to_daemon, ',');
  return slot < static_cast<int>(devices.size()) ? devices[slot] : "";
}

}  // namespace

int threads_of_rank(const internal::v1::RankAssignment& assignment, int cores, int slots) {
  const v1::JobSpec& spec = assignment.spec();
  if (spec.resources().threads_per_rank() > 0) return static_cast<int>(spec.resources().threads_per_rank());
  if (spec.debug().ordered()) return 1;
  return std::max(1, cores / std::max(1, slots));
}

std::vector<std::string> rank_environment(const internal::v1::RankAssignment& assignment, const DaemonOptions& options,
                                          int cores, const std::function<const char*(const char*)>& variable) {
  std::vector<std::string> environment{
      absl::StrCat("QWEN3_JOB=", assignment.job()),
      absl::StrCat("QWEN3_RANK=", assignment.rank()),
      absl::StrCat("QWEN3_DATA=", options.data_root),
      absl::StrCat("OMP_NUM_THREADS=", threads_of_rank(assignment, cores, options.slots)),
  };
  for (const char* name : {"LANG", "LC_ALL", "HOME", "PATH", "TMPDIR"}) {
    if (const char* value = variable(name)) environment.push_back(absl::StrCat(name, "=", value));
  }
  if (options.library_path) {
    environment.push_back(absl::StrCat("LD_LIBRARY_PATH=", *options.library_path));
  } else if (const char* value = variable("LD_LIBRARY_PATH")) {
    environment.push_back(absl::StrCat("LD_LIBRARY_PATH=", value));
  }
  if (options.device_kind == "cuda") {
    environment.push_back(
        absl::StrCat("CUDA_VISIBLE_DEVICES=", visible_device(assignment.slot(), variable("CUDA_VISIBLE_DEVICES"))));
  }
  return environment;
}

}  // namespace qwen3::worker
