#include "client/download/part_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/format/text.h"

namespace qwen3::client::download {
namespace {

using nlohmann::json;

constexpr size_t kReadBytes = 1 << 20;

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

std::string record_of(const std::string& part) { return part + ".json"; }

// Bytes that may still be written to the folder's file system; 0 when it does not say.
int64_t free_bytes(const std::string& folder) {
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  return error ? 0 : static_cast<int64_t>(space.available);
}

absl::Status hash_file(int fd, int64_t bytes, ContentHash& hash) {
  std::vector<char> buffer(kReadBytes);
  for (int64_t done = 0; done < bytes;) {
    const auto wanted = static_cast<size_t>(std::min<int64_t>(bytes - done, static_cast<int64_t>(buffer.size())));
    const ssize_t got = pread(fd, buffer.data(), wanted, done);
    if (got <= 0) return absl::DataLossError(got < 0 ? std::strerror(errno) : "the file is shorter than it was");
    hash.update({buffer.data(), static_cast<size_t>(got)});
    done += got;
  }
  return absl::OkStatus();
}

std::optional<Identity> read_record(const std::string& path) {
  std::ifstream file(path);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto has_text = [&root](const char* key) { return root.contains(key) && root.at(key).is_string(); };
  if (!root.is_object() || !has_text("sha256") || !has_text("git_sha1") || !has_text("etag") ||
      !root.contains("size") || !root.at("size").is_number_integer()) {
    return std::nullopt;  // torn, or not ours
  }
  Identity identity = identity_of({.name = "",
                                   .size = root.at("size").get<int64_t>(),
                                   .sha256 = root.at("sha256").get<std::string>(),
                                   .git_sha1 = root.at("git_sha1").get<std::string>()});
  identity.etag = root.at("etag").get<std::string>();
  return identity;
}

bool write_record(const std::string& path, const Identity& identity) {
  const bool sha256 = identity.kind == HashKind::kSha256;
  const json root = {{"sha256", sha256 ? identity.hash : ""},
                     {"git_sha1", identity.kind == HashKind::kGitSha1 ? identity.hash : ""},
                     {"size", identity.size},
                     {"etag", identity.etag}};
  const std::string text = root.dump(-1, ' ', true, json::error_handler_t::replace);
  unlink(path.c_str());
  const Descriptor file{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644)};
  return file.fd >= 0 && write(file.fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

}  // namespace

Identity identity_of(const RemoteFile& file) {
  Identity identity{.size = file.size.value_or(-1)};
  if (!file.sha256.empty()) {
    identity.kind = HashKind::kSha256;
    identity.hash = file.sha256;
  } else if (!file.git_sha1.empty()) {
    identity.kind = HashKind::kGitSha1;
    identity.hash = file.git_sha1;
  }
  return identity;
}

absl::StatusOr<bool> is_present(const std::string& folder, const RemoteFile& expected) {
  const std::string path = absl::StrCat(folder, "/", expected.name);
  const Identity identity = identity_of(expected);
  if (identity.kind == HashKind::kNone || identity.size < 0) return false;
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)};
  struct stat facts {};
  if (file.fd < 0 || fstat(file.fd, &facts) != 0) return false;
  if (S_ISDIR(facts.st_mode)) return absl::FailedPreconditionError(absl::StrCat(path, " is a folder"));
  if (!S_ISREG(facts.st_mode) || facts.st_size != identity.size) return false;
  ContentHash hash(identity.kind, identity.size);
  if (const absl::Status read = hash_file(file.fd, identity.size, hash); !read.ok()) return false;
  return hash.hex() == identity.hash;
}

absl::StatusOr<std::unique_ptr<PartFile>> PartFile::open(const std::string& folder, const RemoteFile& expected) {
  std::unique_ptr<PartFile> part(new PartFile());
  part->folder_ = folder;
  part->name_ = expected.name;
  part->path_ = absl::StrCat(folder, "/", expected.name, ".part");
  part->fd_ = ::open(part->path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0644);
  if (part->fd_ < 0 && errno == ELOOP) {
    return absl::FailedPreconditionError(absl::StrCat(part->path_, " is a symbolic link; remove it"));
  }
  if (part->fd_ < 0) return part->failed("cannot be opened");
  // Between open and lock another process may have moved the file to its final place: then it is not ours to write.
  struct stat opened {
  }, named{};
  if (flock(part->fd_, LOCK_EX | LOCK_NB) != 0 || fstat(part->fd_, &opened) != 0 ||
      lstat(part->path_.c_str(), &named) != 0 || opened.st_ino != named.st_ino) {
    return absl::UnavailableError(absl::StrCat(part->path_, " is being written by another process"));
  }
  if (!S_ISREG(opened.st_mode)) return absl::FailedPreconditionError(absl::StrCat(part->path_, " is no regular file"));
  part->bytes_ = opened.st_size;
  if (const absl::Status loaded = part->load(); !loaded.ok()) return loaded;

  // Bytes of other content are of no use.
  const Identity wanted = identity_of(expected);
  const auto& known = part->identity_;
  const bool same = known && (wanted.size < 0 || wanted.size == known->size) &&
                    (wanted.kind == HashKind::kNone || (wanted.kind == known->kind && wanted.hash == known->hash));
  // Whole, but with no hash to prove it: the server might have another content by now.
  const bool unproven = known && known->kind == HashKind::kNone && part->bytes_ == known->size;
  if (!same || unproven || part->bytes_ > known->size) part->drop();
  return part;
}

PartFile::~PartFile() {
  if (fd_ < 0) return;
  if (bytes_ == 0 && !identity_) unlink(path_.c_str());  // nothing came: leave no trace
  close(fd_);
}

absl::Status PartFile::load() {
  identity_ = bytes_ > 0 ? read_record(record_of(path_)) : std::nullopt;
  if (!identity_) return absl::OkStatus();
  hash_ = std::make_unique<ContentHash>(identity_->kind, identity_->size);
  return hash_file(fd_, bytes_, *hash_).ok() ? absl::OkStatus() : failed("cannot be read");
}

void PartFile::drop() {
  identity_.reset();
  hash_.reset();
  bytes_ = 0;
  unlink(record_of(path_).c_str());
  (void)!ftruncate(fd_, 0);  // restart() does it again and checks
}

absl::Status PartFile::restart(const Identity& identity) {
  drop();
  if (ftruncate(fd_, 0) != 0) return failed("cannot be emptied");
  // Before the first byte: bytes without a record are dropped, bytes with a wrong record would be kept.
  if (!write_record(record_of(path_), identity)) return failed("cannot have its record written");
  identity_ = identity;
  hash_ = std::make_unique<ContentHash>(identity.kind, identity.size);
  return absl::OkStatus();
}

absl::Status PartFile::append(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(fd_, bytes.data(), bytes.size(), bytes_);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed("cannot be written");
    hash_->update(bytes.substr(0, static_cast<size_t>(written)));
    bytes_ += written;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status PartFile::commit() {
  const Identity identity = *identity_;
  const std::string got = hash_->hex();
  if (got != identity.hash) {
    drop();
    return absl::DataLossError(absl::StrCat(name_, ": what came has ", hash_name(identity.kind), " ", got,
                                            ", expected ", identity.hash, "; it was not kept"));
  }
  const std::string final_path = absl::StrCat(folder_, "/", name_);
  if (fsync(fd_) != 0 || rename(path_.c_str(), final_path.c_str()) != 0) {
    return failed(absl::StrCat("cannot become ", final_path).c_str());
  }
  unlink(record_of(path_).c_str());
  close(std::exchange(fd_, -1));
  const Descriptor folder{::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (folder.fd < 0 || fsync(folder.fd) != 0) return failed("is complete, but its folder cannot be synced");
  return absl::OkStatus();
}

// The error of errno about this file; a full disk says how much is missing.
absl::Status PartFile::failed(const char* what) const {
  const int error = errno;
  const std::string message = absl::StrCat(path_, " ", what, ": ", std::strerror(error));
  if (error != ENOSPC && error != EDQUOT) return absl::FailedPreconditionError(message);
  const int64_t left = identity_ ? std::max<int64_t>(identity_->size - bytes_, 0) : 0;
  return absl::ResourceExhaustedError(
      absl::StrCat(message, "; ", bytes_text(left), " of it are still to come and ", bytes_text(free_bytes(folder_)),
                   " are free; make room and repeat the command, it goes on from here"));
}

}  // namespace qwen3::client::download
