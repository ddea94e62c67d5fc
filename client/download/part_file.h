// A file that is being downloaded: FOLDER/NAME.part, and beside it NAME.part.json with what is known about the content
// that its bytes belong to. It becomes FOLDER/NAME in one step, or stays for the next try.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/download/content_hash.h"
#include "client/download/repository.h"

namespace qwen3::client::download {

// What content a partial file belongs to. Bytes are added only to those of the same content.
struct Identity {
  HashKind kind = HashKind::kNone;
  std::string hash;  // lower-case hex
  int64_t size = -1;
  std::string etag;  // of the server that sent the bytes, as it wrote it; a weak one is not kept
};

class PartFile {
 public:
  // Opens or makes the partial file; at most one process at a time (UNAVAILABLE: another has it).
  // Follows no symbolic link. Names and sizes are those of `expected`.
  static absl::StatusOr<std::unique_ptr<PartFile>> open(const std::string& folder, const RemoteFile& expected);
  ~PartFile();
  PartFile(const PartFile&) = delete;

  int64_t bytes() const { return bytes_; }
  const std::optional<Identity>& identity() const { return identity_; }  // nullopt: no bytes yet

  void drop();  // what is there
  // Drops what is there; the next bytes are the first ones of `identity`'s content.
  absl::Status restart(const Identity& identity);
  absl::Status append(std::string_view bytes);
  bool is_complete() const { return identity_ && bytes_ == identity_->size; }

  // REQUIRES is_complete(). DATA_LOSS: the content is not the expected one; what was there is dropped.
  // Otherwise the file is at its final place, synced.
  absl::Status commit();

 private:
  PartFile() = default;
  absl::Status load();
  absl::Status failed(const char* what) const;

  std::string folder_, name_, path_;
  int fd_ = -1;
  int64_t bytes_ = 0;
  std::optional<Identity> identity_;
  std::unique_ptr<ContentHash> hash_;  // of the first bytes_ bytes
};

// The strongest thing known about the content before it is asked for.
Identity identity_of(const RemoteFile& file);

// Whether FOLDER/NAME is a regular file with exactly the expected content. False where no hash is known.
absl::StatusOr<bool> is_present(const std::string& folder, const RemoteFile& expected);

}  // namespace qwen3::client::download
