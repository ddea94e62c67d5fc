#include "coordinator/state_lock.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace qwen3::coordinator {

absl::StatusOr<std::unique_ptr<StateLock>> StateLock::take(const std::string& state_dir) {
  const std::string path = state_dir + "/lock";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot open ", path, ": ", std::generic_category().message(errno)));
  }
  std::unique_ptr<StateLock> lock(new StateLock(fd));
  struct flock request = {};
  request.l_type = F_WRLCK;
  request.l_whence = SEEK_SET;
  // An open-file-description lock: it also holds between two coordinators of one process, as in tests.
  if (fcntl(fd, F_OFD_SETLK, &request) != 0) {
    char holder[32] = {};
    const ssize_t length = pread(fd, holder, sizeof holder - 1, 0);
    return absl::AbortedError(
        absl::StrCat("another coordinator uses ", state_dir, ": pid ", length > 0 ? holder : "unknown"));
  }
  const std::string pid = absl::StrCat(getpid());
  if (ftruncate(fd, 0) != 0 || pwrite(fd, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    spdlog::warn("cannot write this process' id into {}: {}", path, std::generic_category().message(errno));
  }
  return lock;
}

StateLock::~StateLock() { close(fd_); }

}  // namespace qwen3::coordinator
