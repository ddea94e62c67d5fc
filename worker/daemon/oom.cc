#include "worker/daemon/oom.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_split.h"

namespace qwen3::worker {
namespace {

// The value behind "oom_kill " in a file of "key value" lines.
std::optional<int64_t> oom_kills_in(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string key;
  int64_t value = 0;
  while (file >> key >> value) {
    if (key == "oom_kill") return value;
  }
  return std::nullopt;
}

// Where the kernel counts for this process's memory cgroup: cgroup v1's controller, or v2's one tree. Inside a
// container the path may be relative to another root, so the mount itself is tried as well.
std::optional<int64_t> cgroup_oom_kills(const std::filesystem::path& root) {
  std::ifstream file(root / "proc/self/cgroup");
  const std::filesystem::path mount = root / "sys/fs/cgroup";
  std::string line;
  while (std::getline(file, line)) {  // "ID:CONTROLLERS:/PATH"
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::string path = parts[2].substr(std::min<size_t>(1, parts[2].size()));
    std::vector<std::filesystem::path> candidates;
    if (parts[1] == "memory") {
      candidates = {mount / "memory" / path / "memory.oom_control", mount / "memory/memory.oom_control"};
    } else if (parts[1].empty()) {
      candidates = {mount / path / "memory.events", mount / "memory.events"};
    }
    for (const auto& candidate : candidates) {
      if (const auto kills = oom_kills_in(candidate)) return kills;
    }
  }
  return std::nullopt;
}

}  // namespace

OomCounter::OomCounter(std::filesystem::path root) : root_(std::move(root)), last_(read()) {}

bool OomCounter::increased() {
  const int64_t now = read();
  return now > std::exchange(last_, now);
}

int64_t OomCounter::read() const {
  if (const auto kills = cgroup_oom_kills(root_)) return *kills;
  return oom_kills_in(root_ / "proc/vmstat").value_or(0);
}

}  // namespace qwen3::worker
