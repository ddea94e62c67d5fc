// Tells a kernel out-of-memory kill from any other SIGKILL, by the kernel's own counters.
#pragma once
#include <cstdint>
#include <filesystem>

namespace qwen3::worker {

class OomCounter {
 public:
  // `root` is "/" but in tests.
  explicit OomCounter(std::filesystem::path root = "/");
  // Whether the kernel has killed a process for lack of memory, in this process's memory cgroup (or, without one, on
  // this host), since the call before or construction. Ranks live in the daemon's cgroup.
  bool increased();

 private:
  int64_t read() const;

  std::filesystem::path root_;
  int64_t last_;
};

}  // namespace qwen3::worker
