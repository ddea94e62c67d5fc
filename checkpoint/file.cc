#include "checkpoint/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace qwen3::checkpoint {
namespace {

constexpr size_t kPiece = size_t{8} << 20;  // of one read or write call; Linux moves at most 2 GiB - 4 KiB at once

std::string hex(const XXH128_hash_t& hash) { return absl::StrFormat("%016x%016x", hash.high64, hash.low64); }

absl::Status io_error(int error, std::string_view what, const std::string& path) {
  const std::string message = absl::StrCat(path, ": ", absl::string_view(what.data(), what.size()));
  if (error == EFBIG) return absl::ResourceExhaustedError(absl::StrCat(message, ": ", std::strerror(error)));
  return absl::ErrnoToStatus(error, message);
}

}  // namespace

int64_t chunk_count(int64_t size_bytes, int64_t chunk_bytes) {
  return size_bytes / chunk_bytes + (size_bytes % chunk_bytes == 0 ? 0 : 1);
}

Descriptor::Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

int Descriptor::release() { return std::exchange(fd_, -1); }

InputFile::InputFile(std::string path, Descriptor descriptor, int64_t size)
    : path_(std::move(path)), descriptor_(std::move(descriptor)), size_(size) {}

absl::StatusOr<InputFile> InputFile::open(const std::string& path, Links links) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (links == Links::kRefuse ? O_NOFOLLOW : 0);
  Descriptor descriptor(::open(path.c_str(), flags));
  if (descriptor.get() < 0) {
    if (errno == ELOOP) return absl::InvalidArgumentError(absl::StrCat(path, ": is a symbolic link, want a file"));
    return io_error(errno, "cannot open", path);
  }
  struct stat info {};
  if (::fstat(descriptor.get(), &info) != 0) return io_error(errno, "cannot stat", path);
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  return InputFile(path, std::move(descriptor), info.st_size);
}

absl::Status InputFile::read(int64_t offset, std::span<std::byte> into) const {
  size_t done = 0;
  while (done < into.size()) {
    const size_t piece = std::min(kPiece, into.size() - done);
    const ssize_t got =
        ::pread(descriptor_.get(), into.data() + done, piece, static_cast<off_t>(offset + static_cast<int64_t>(done)));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error(errno, "cannot read", path_);
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(path_, ": ends at byte ", offset + static_cast<int64_t>(done), ", want ",
                                              into.size(), " bytes from ", offset));
    }
    done += static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> InputFile::contents(int64_t limit) const {
  if (size_ > limit) {
    return absl::ResourceExhaustedError(absl::StrCat(path_, ": has ", size_, " bytes, want at most ", limit));
  }
  std::string text(static_cast<size_t>(size_), '\0');
  if (absl::Status status = read(0, std::as_writable_bytes(std::span(text))); !status.ok()) return status;
  return text;
}

OutputFile::OutputFile(std::string path, std::string temporary, Descriptor descriptor, int64_t size_bytes)
    : path_(std::move(path)),
      temporary_(std::move(temporary)),
      descriptor_(std::move(descriptor)),
      expected_(size_bytes),
      hash_(XXH3_createState()) {
  XXH3_128bits_reset(hash_.get());
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, "")),
      descriptor_(std::move(other.descriptor_)),
      expected_(other.expected_),
      written_(other.written_),
      hash_(std::move(other.hash_)),
      digests_(std::move(other.digests_)) {}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

absl::StatusOr<OutputFile> OutputFile::create(const std::string& path, int64_t size_bytes) {
  const std::string temporary = absl::StrCat(path, ".tmp-", ::getpid());
  Descriptor descriptor(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (descriptor.get() < 0) return io_error(errno, "cannot create", temporary);
  OutputFile file(path, temporary, std::move(descriptor), size_bytes);
  if (size_bytes > 0 && ::fallocate(file.descriptor_.get(), 0, 0, size_bytes) != 0 &&
      (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
    return file.failure(errno);
  }
  return file;
}

absl::Status OutputFile::failure(int error) const {
  struct statvfs volume {};
  const int64_t available = ::fstatvfs(descriptor_.get(), &volume) == 0
                                ? static_cast<int64_t>(volume.f_bavail) * static_cast<int64_t>(volume.f_frsize)
                                : -1;
  return io_error(error,
                  absl::StrFormat("cannot write %d bytes (%d written, %d available)", expected_, written_, available),
                  path_);
}

absl::Status OutputFile::append(std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t got = ::write(descriptor_.get(), data.data(), std::min(kPiece, data.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(errno);
    hash(data.first(static_cast<size_t>(got)));  // while it is still in the cache
    data = data.subspan(static_cast<size_t>(got));
  }
  return absl::OkStatus();
}

void OutputFile::hash(std::span<const std::byte> data) {
  while (!data.empty()) {
    const size_t piece = std::min(data.size(), static_cast<size_t>(kChunkBytes - written_ % kChunkBytes));
    XXH3_128bits_update(hash_.get(), data.data(), piece);
    written_ += static_cast<int64_t>(piece);
    if (written_ % kChunkBytes == 0) end_chunk();
    data = data.subspan(piece);
  }
}

void OutputFile::end_chunk() {
  digests_.push_back(hex(XXH3_128bits_digest(hash_.get())));
  XXH3_128bits_reset(hash_.get());
}

absl::Status OutputFile::append(std::string_view text) { return append(std::as_bytes(std::span(text))); }

absl::StatusOr<FileRecord> OutputFile::commit() {
  if (written_ != expected_) {
    return absl::InternalError(absl::StrCat(path_, ": ", written_, " bytes written, ", expected_, " announced"));
  }
  if (::fsync(descriptor_.get()) != 0) return failure(errno);
  // Some network file systems report a failed write only here.
  if (::close(descriptor_.release()) != 0) return io_error(errno, "cannot close", temporary_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return io_error(errno, "cannot rename to it", path_);
  temporary_.clear();
  if (absl::Status status = sync_folder(folder_of(path_)); !status.ok()) return status;
  if (written_ % kChunkBytes != 0) end_chunk();
  return FileRecord{.size_bytes = written_, .xxh3_128 = std::move(digests_)};
}

absl::Status sync_folder(const std::string& folder) {
  const Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.get() < 0) return io_error(errno, "cannot open the folder", folder);
  if (::fsync(descriptor.get()) != 0) return io_error(errno, "cannot fsync the folder", folder);
  return absl::OkStatus();
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string bytes_digest(std::string_view bytes) { return hex(XXH3_128bits(bytes.data(), bytes.size())); }

}  // namespace qwen3::checkpoint
