#include "checkpoint/verified_file.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

namespace qwen3::checkpoint {

VerifiedFile::VerifiedFile(InputFile file, const FileRecord& record)
    : file_(std::move(file)), record_(&record), chunks_(std::make_unique<Chunk[]>(record.xxh3_128.size())) {}

absl::StatusOr<VerifiedFile> VerifiedFile::open(const std::string& path, const FileRecord& record) {
  absl::StatusOr<InputFile> file = InputFile::open(path, Links::kRefuse);
  if (absl::IsNotFound(file.status())) return absl::DataLossError(file.status().message());
  if (!file.ok()) return file.status();
  if (file->size() != record.size_bytes) {
    return absl::DataLossError(
        absl::StrCat(path, ": has ", file->size(), " bytes, the manifest says ", record.size_bytes));
  }
  return VerifiedFile(*std::move(file), record);
}

int64_t VerifiedFile::chunk_size(int64_t chunk) const {
  return std::min(record_->chunk_bytes, file_.size() - chunk * record_->chunk_bytes);
}

absl::Status VerifiedFile::read(int64_t offset, std::span<std::byte> into, Buffer& buffer) const {
  while (!into.empty()) {
    const int64_t chunk = offset / record_->chunk_bytes, from = offset % record_->chunk_bytes;
    const size_t size = std::min(into.size(), static_cast<size_t>(chunk_size(chunk) - from));
    if (absl::Status status = read_in_chunk(chunk, from, into.first(size), buffer); !status.ok()) return status;
    into = into.subspan(size);
    offset += static_cast<int64_t>(size);
  }
  return absl::OkStatus();
}

absl::Status VerifiedFile::check_first(int64_t bytes) const {
  Buffer buffer;
  const int64_t chunks = chunk_count(std::min(bytes, file_.size()), record_->chunk_bytes);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    if (absl::Status status = read_in_chunk(chunk, 0, {}, buffer); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// Who checks a chunk has its bytes in memory and copies what is wanted, or reads them where they are wanted if that is
// all of them. Everyone else reads what is wanted, from the descriptor whose bytes were checked.
absl::Status VerifiedFile::read_in_chunk(int64_t chunk, int64_t from, std::span<std::byte> into, Buffer& buffer) const {
  const auto copy = [&] {
    if (!into.empty()) std::memcpy(into.data(), buffer.bytes_.get() + from, into.size());
  };
  if (buffer.chunk_ == chunk) {
    copy();
    return absl::OkStatus();
  }
  Chunk& state = chunks_[static_cast<size_t>(chunk)];
  bool done = false;
  std::call_once(state.once, [&] {
    const auto size = static_cast<size_t>(chunk_size(chunk));
    if (into.size() == size) {
      state.status = read_and_check(chunk, into);
    } else {
      if (!buffer.bytes_) {
        buffer.bytes_ = std::make_unique_for_overwrite<std::byte[]>(
            static_cast<size_t>(std::min(record_->chunk_bytes, file_.size())));
      }
      buffer.chunk_ = -1;
      state.status = read_and_check(chunk, {buffer.bytes_.get(), size});
      if (!state.status.ok()) return;
      buffer.chunk_ = chunk;
      copy();
    }
    done = true;
  });
  if (!state.status.ok() || done) return state.status;
  return file_.read(chunk * record_->chunk_bytes + from, into);
}

absl::Status VerifiedFile::read_and_check(int64_t chunk, std::span<std::byte> whole) const {
  const int64_t begin = chunk * record_->chunk_bytes;
  if (absl::Status status = file_.read(begin, whole); !status.ok()) return status;
  const std::string& wanted = record_->xxh3_128[static_cast<size_t>(chunk)];
  const std::string got = bytes_digest(std::string_view(reinterpret_cast<const char*>(whole.data()), whole.size()));
  if (got == wanted) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(file_.path(), ": bytes ", begin, " to ", begin + chunk_size(chunk),
                                          " have XXH3-128 ", got, ", the manifest says ", wanted,
                                          ": the file was changed"));
}

}  // namespace qwen3::checkpoint
