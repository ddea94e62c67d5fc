#include "coordinator/record_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace qwen3::coordinator {
namespace {

constexpr uint32_t kMagic = 0x33524351;  // "QCR3"
constexpr uint32_t kMaxPayload = 1 << 20;

struct Header {
  uint32_t magic = kMagic;
  uint32_t length = 0;  // of the payload
  int32_t attempt = 0;
  int32_t rank = 0;
  int64_t seq = 0;
  uint64_t digest = 0;
};
static_assert(sizeof(Header) == 32 && std::is_trivially_copyable_v<Header>);

uint64_t digest_of(const Header& header, std::string_view payload) {
  XXH3_state_t* state = XXH3_createState();
  XXH3_64bits_reset(state);
  XXH3_64bits_update(state, &header, offsetof(Header, digest));
  XXH3_64bits_update(state, payload.data(), payload.size());
  const uint64_t digest = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return digest;
}

absl::Status io_error(const std::string& doing, const std::string& path) {
  const int code = errno;
  const std::string message = absl::StrCat(doing, " ", path, ": ", std::generic_category().message(code));
  return code == ENOSPC ? absl::ResourceExhaustedError(message) : absl::InternalError(message);
}

// An open file descriptor.
class File {
 public:
  File(const std::string& path, int flags) : path_(path), fd_(open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  bool ok() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_;
};

// Fills `into` from byte `offset`; false: the file ends before. An error of the disk is none of the two.
absl::StatusOr<bool> read_bytes(const File& file, int64_t offset, void* into, size_t size) {
  for (size_t done = 0; done < size;) {
    const ssize_t got =
        pread(file.fd(), static_cast<char*>(into) + done, size - done, offset + static_cast<int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error("read", file.path());
    if (got == 0) return false;
    done += static_cast<size_t>(got);
  }
  return true;
}

// The record at `offset`; false: there is none that holds together.
absl::StatusOr<bool> read_one(const File& file, int64_t offset, int64_t end, Record& record, int64_t& next) {
  constexpr auto kHeaderBytes = static_cast<int64_t>(sizeof(Header));
  Header header;
  if (end - offset < kHeaderBytes) return false;
  absl::StatusOr<bool> whole = read_bytes(file, offset, &header, sizeof header);
  if (!whole.ok() || !*whole) return whole;
  if (header.magic != kMagic || header.length > kMaxPayload) return false;
  next = offset + kHeaderBytes + header.length;
  if (next > end) return false;
  record = {header.attempt, header.rank, header.seq, std::string(header.length, '\0')};
  whole = read_bytes(file, offset + kHeaderBytes, record.payload.data(), record.payload.size());
  if (!whole.ok() || !*whole) return whole;
  return digest_of(header, record.payload) == header.digest;
}

}  // namespace

absl::StatusOr<RecordFile> RecordFile::open(const std::string& path) {
  const File file(path, O_RDWR | O_CREAT);
  struct stat info = {};
  if (!file.ok() || fstat(file.fd(), &info) != 0) return io_error("open", path);
  RecordFile result(path);
  Record record;
  int64_t next = 0;
  while (true) {
    const absl::StatusOr<bool> whole = read_one(file, result.end_, info.st_size, record, next);
    if (!whole.ok()) return whole.status();
    if (!*whole) break;
    int64_t& last = result.last_seq_[{record.attempt, record.rank}];
    last = std::max(last, record.seq);
    result.end_ = next;
  }
  if (result.end_ < info.st_size && ftruncate(file.fd(), result.end_) != 0) return io_error("truncate", path);
  return result;
}

bool RecordFile::has(const Record& record) const {
  const auto last = last_seq_.find({record.attempt, record.rank});
  return last != last_seq_.end() && record.seq <= last->second;
}

absl::Status RecordFile::append(std::span<const Record> records) {
  std::string bytes;
  for (const Record& record : records) {
    if (record.payload.size() > kMaxPayload) {
      return absl::InvalidArgumentError(
          absl::StrCat("a record of ", record.payload.size(), " bytes; at most ", kMaxPayload, " are kept"));
    }
    Header header{.length = static_cast<uint32_t>(record.payload.size()),
                  .attempt = record.attempt,
                  .rank = record.rank,
                  .seq = record.seq};
    header.digest = digest_of(header, record.payload);
    bytes.append(reinterpret_cast<const char*>(&header), sizeof header);
    bytes.append(record.payload);
  }
  const File file(path_, O_WRONLY);
  if (!file.ok()) return io_error("open", path_);
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t wrote =
        pwrite(file.fd(), bytes.data() + done, bytes.size() - done, end_ + static_cast<int64_t>(done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      const absl::Status status = io_error("write", path_);
      if (ftruncate(file.fd(), end_) != 0) return io_error("truncate", path_);
      return status;
    }
    done += static_cast<size_t>(wrote);
  }
  if (fdatasync(file.fd()) != 0) {
    const absl::Status status = io_error("fdatasync", path_);
    if (ftruncate(file.fd(), end_) != 0) return io_error("truncate", path_);
    return status;
  }
  end_ += static_cast<int64_t>(bytes.size());
  for (const Record& record : records) {
    int64_t& last = last_seq_[{record.attempt, record.rank}];
    last = std::max(last, record.seq);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<PositionedRecord>> read_records(const std::string& path, int64_t position, int64_t end,
                                                           int64_t max_bytes) {
  if (position < 0 || position > end) {
    return absl::OutOfRangeError(absl::StrCat("position ", position, " is outside 0 .. ", end));
  }
  std::vector<PositionedRecord> records;
  if (position == end) return records;
  const File file(path, O_RDONLY);
  if (!file.ok()) return io_error("open", path);
  for (int64_t at = position, next = 0; at < end && (records.empty() || at - position < max_bytes); at = next) {
    PositionedRecord& read = records.emplace_back();
    const absl::StatusOr<bool> whole = read_one(file, at, end, read.record, next);
    if (!whole.ok()) return whole.status();
    if (!*whole) {
      return absl::OutOfRangeError(absl::StrCat("position ", at, " is not between two records"));
    }
    read.position = next;
  }
  return records;
}

}  // namespace qwen3::coordinator
