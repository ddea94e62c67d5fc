// Only one coordinator may use a state folder: an fcntl lock on its file "lock", which also names the holder where the
// disk has room for that.
#pragma once
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace qwen3::coordinator {

class StateLock {
 public:
  // ABORTED: another process holds it; names its pid.
  static absl::StatusOr<std::unique_ptr<StateLock>> take(const std::string& state_dir);
  ~StateLock();
  StateLock(const StateLock&) = delete;
  StateLock& operator=(const StateLock&) = delete;

 private:
  explicit StateLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace qwen3::coordinator
