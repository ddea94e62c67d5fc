#include "checkpoint/space.h"

#include <sys/statvfs.h>

#include <cerrno>

#include "absl/strings/str_cat.h"

namespace qwen3::checkpoint {

absl::StatusOr<int64_t> free_bytes(const std::string& folder) {
  struct statvfs volume {};
  if (::statvfs(folder.c_str(), &volume) != 0) return absl::ErrnoToStatus(errno, absl::StrCat(folder, ": cannot stat"));
  return static_cast<int64_t>(volume.f_bavail) * static_cast<int64_t>(volume.f_frsize);
}

absl::Status require_space(const std::string& folder, int64_t bytes, const std::string& what) {
  const absl::StatusOr<int64_t> available = free_bytes(folder);
  if (!available.ok()) return available.status();
  if (*available >= bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(folder, ": ", *available, " bytes are free, but ", what, " needs ", bytes));
}

}  // namespace qwen3::checkpoint
