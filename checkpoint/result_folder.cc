#include "checkpoint/result_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"

namespace qwen3::checkpoint {
namespace {

namespace fs = std::filesystem;

absl::Status check_target(const std::string& target, const std::string& marker) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(target, error)) || fs::exists(absl::StrCat(target, "/", marker), error)) {
    return absl::OkStatus();
  }
  if (fs::is_directory(target, error) && fs::is_empty(target, error)) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat(target, ": is there and is no earlier result of this kind (it has no ", marker, ")"));
}

bool same_folder(int fd, const std::string& path) {
  struct stat open_one {
  }, named{};
  return ::fstat(fd, &open_one) == 0 && ::stat(path.c_str(), &named) == 0 && open_one.st_ino == named.st_ino &&
         open_one.st_dev == named.st_dev;
}

}  // namespace

ResultFolder::ResultFolder(std::string target, std::string temporary, std::string marker, Descriptor lock)
    : target_(std::move(target)),
      temporary_(std::move(temporary)),
      marker_(std::move(marker)),
      lock_(std::move(lock)) {}

ResultFolder::~ResultFolder() {
  std::error_code error;
  if (lock_.get() >= 0) fs::remove_all(temporary_, error);
}

absl::StatusOr<ResultFolder> ResultFolder::create(const std::string& target, const std::string& marker) {
  std::string name = target;
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  if (absl::Status status = check_target(name, marker); !status.ok()) return status;
  const std::string temporary = name + ".tmp";
  std::error_code error;
  fs::create_directories(temporary, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat(temporary, ": cannot make the folder"));
  Descriptor lock(::open(temporary.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (lock.get() < 0) return absl::ErrnoToStatus(errno, absl::StrCat(temporary, ": cannot open the folder"));
  // Whoever published or removed it in between no longer holds the folder of this name.
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0 || !same_folder(lock.get(), temporary)) {
    return absl::FailedPreconditionError(absl::StrCat(temporary, ": another run is writing ", name));
  }
  for (fs::directory_iterator entry(temporary, error), end; !error && entry != end; entry.increment(error)) {
    fs::remove_all(entry->path(), error);
  }
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat(temporary, ": cannot empty the folder"));
  return ResultFolder(name, temporary, marker, std::move(lock));
}

absl::Status ResultFolder::publish() {
  if (absl::Status status = sync_folder(temporary_); !status.ok()) return status;
  if (::rename(temporary_.c_str(), target_.c_str()) == 0) {
    lock_ = Descriptor();  // the temporary name is free for others now
  } else {
    if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) {
      return absl::ErrnoToStatus(errno, absl::StrCat(target_, ": cannot rename to it"));
    }
    if (absl::Status status = check_target(target_, marker_); !status.ok()) return status;
    // The earlier result gets the temporary name, where nobody else may begin before it is gone.
    const Descriptor earlier(::open(target_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (earlier.get() < 0 || ::flock(earlier.get(), LOCK_EX | LOCK_NB) != 0) {
      return absl::FailedPreconditionError(absl::StrCat(target_, ": cannot be replaced, another run uses it"));
    }
    if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat(target_, ": cannot replace it"));
    }
    std::error_code error;
    fs::remove_all(temporary_, error);
    lock_ = Descriptor();
  }
  return sync_folder(folder_of(target_));
}

}  // namespace qwen3::checkpoint
