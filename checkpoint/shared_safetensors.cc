#include "checkpoint/shared_safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"

namespace qwen3::checkpoint {
namespace {

constexpr size_t kPiece = size_t{8} << 20;  // of one call

absl::Status failure(int error, const std::string& path, const char* what) {
  return absl::ErrnoToStatus(error, absl::StrCat(path, ": ", what));
}

std::string partial_name(const std::string& path, const std::string& tag) {
  return absl::StrCat(path, ".partial-", tag);
}

void remove_partials(const std::string& path) {
  const std::string prefix = absl::StrCat(std::filesystem::path(path).filename().string(), ".partial-");
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder_of(path), ignored)) {
    if (entry.path().filename().string().starts_with(prefix)) std::filesystem::remove(entry.path(), ignored);
  }
}

}  // namespace

SharedSafetensors::SharedSafetensors(std::string path, std::string partial, bool creator, Descriptor descriptor,
                                     SafetensorsStart start)
    : path_(std::move(path)),
      partial_(std::move(partial)),
      creator_(creator),
      descriptor_(std::move(descriptor)),
      start_(std::move(start)) {}

SharedSafetensors::SharedSafetensors(SharedSafetensors&& other) noexcept
    : path_(std::move(other.path_)),
      partial_(std::move(other.partial_)),
      creator_(std::exchange(other.creator_, false)),
      descriptor_(std::move(other.descriptor_)),
      start_(std::move(other.start_)) {}

SharedSafetensors::~SharedSafetensors() {
  if (creator_) ::unlink(partial_.c_str());
}

absl::StatusOr<SharedSafetensors> SharedSafetensors::create(const std::string& path, const std::string& tag,
                                                            std::span<const TensorLayout> tensors) {
  absl::StatusOr<SafetensorsStart> start = safetensors_start(path, tensors);
  if (!start.ok()) return start.status();
  remove_partials(path);
  const std::string partial = partial_name(path, tag);
  Descriptor descriptor(::open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (descriptor.get() < 0) return failure(errno, partial, "cannot create");
  SharedSafetensors file(path, partial, /*creator=*/true, std::move(descriptor), std::move(*start));
  const int fd = file.descriptor_.get();
  const int64_t bytes = file.start_.file_bytes;
  // Reserved where the file system can, so that a full disk is found before the work.
  if (::fallocate(fd, 0, 0, bytes) != 0) {
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
      return absl::ResourceExhaustedError(absl::StrCat(path, ": no room for its ", bytes, " bytes"));
    }
    if (::ftruncate(fd, bytes) != 0) return failure(errno, partial, "cannot be given its size");
  }
  absl::Status status = file.write_at(0, std::as_bytes(std::span(file.start_.bytes)));
  if (!status.ok()) return status;
  return file;
}

absl::StatusOr<SharedSafetensors> SharedSafetensors::open(const std::string& path, const std::string& tag,
                                                          std::span<const TensorLayout> tensors) {
  absl::StatusOr<SafetensorsStart> start = safetensors_start(path, tensors);
  if (!start.ok()) return start.status();
  const std::string partial = partial_name(path, tag);
  Descriptor descriptor(::open(partial.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  if (descriptor.get() < 0) {
    return failure(errno, partial, "cannot open what another rank made; the folder must be one that every worker sees");
  }
  struct stat info {};
  if (::fstat(descriptor.get(), &info) != 0) return failure(errno, partial, "cannot stat");
  if (info.st_size != start->file_bytes) {
    return absl::DataLossError(
        absl::StrCat(partial, ": has ", info.st_size, " bytes, want ", start->file_bytes, ": another writer's file"));
  }
  return SharedSafetensors(path, partial, /*creator=*/false, std::move(descriptor), std::move(*start));
}

absl::Status SharedSafetensors::write_at(int64_t offset, std::span<const std::byte> data) const {
  while (!data.empty()) {
    const ssize_t got =
        ::pwrite(descriptor_.get(), data.data(), std::min(kPiece, data.size()), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(errno, partial_, "cannot write");
    data = data.subspan(static_cast<size_t>(got));
    offset += got;
  }
  return absl::OkStatus();
}

absl::Status SharedSafetensors::write(size_t index, int64_t offset, std::span<const std::byte> data) const {
  const int64_t begin = start_.begin.at(index);
  const int64_t end = index + 1 < start_.begin.size() ? start_.begin[index + 1] : start_.file_bytes;
  if (offset < 0 || static_cast<int64_t>(data.size()) > end - begin - offset) {
    return absl::OutOfRangeError(absl::StrCat(path_, ": ", data.size(), " bytes from ", offset, " of tensor ", index,
                                              ", which has ", end - begin));
  }
  return write_at(begin + offset, data);
}

absl::Status SharedSafetensors::sync() const {
  if (::fsync(descriptor_.get()) != 0) return failure(errno, partial_, "cannot fsync");
  return absl::OkStatus();
}

absl::Status SharedSafetensors::commit() {
  if (::rename(partial_.c_str(), path_.c_str()) != 0) return failure(errno, path_, "cannot rename to it");
  creator_ = false;
  return sync_folder(folder_of(path_));
}

}  // namespace qwen3::checkpoint
