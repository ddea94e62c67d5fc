#include "worker/rank/data/byte_source.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace qwen3::data {
namespace {

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw std::runtime_error("data file " + path + ": " + what);
}

// For what the system refused: errno says why.
[[noreturn]] void fail(const std::string& path) {
  throw std::system_error(errno, std::generic_category(), "data file " + path);
}

class PlainFile final : public ByteSource {
 public:
  explicit PlainFile(const std::string& path) : path_(path), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (file_ < 0) fail(path_);
  }
  ~PlainFile() override { ::close(file_); }

  std::size_t read(char* to, std::size_t size) override {
    ssize_t got;
    do {
      got = ::read(file_, to, size);
    } while (got < 0 && errno == EINTR);
    if (got < 0) fail(path_);
    consumed_ += got;
    return static_cast<std::size_t>(got);
  }
  int64_t consumed() const override { return consumed_; }

 private:
  std::string path_;
  int file_;
  int64_t consumed_ = 0;
};

class GzipFile final : public ByteSource {
 public:
  explicit GzipFile(const std::string& path) : path_(path), file_(gzopen(path.c_str(), "rbe")) {
    if (!file_) fail(path_);
    gzbuffer(file_, 256 << 10);
  }
  ~GzipFile() override { gzclose(file_); }

  std::size_t read(char* to, std::size_t size) override {
    const int got = gzread(file_, to, static_cast<unsigned>(std::min<std::size_t>(size, 1 << 30)));
    int code = Z_OK;
    const char* message = gzerror(file_, &code);
    if (got < 0 && code == Z_ERRNO) fail(path_);
    if (got < 0 || (got == 0 && code != Z_OK && code != Z_STREAM_END)) {
      fail(path_, code == Z_BUF_ERROR ? "the gzip data end too early" : std::string("not valid gzip: ") + message);
    }
    if (got > 0 && gzdirect(file_)) fail(path_, "its name ends in .gz, but it is not gzip");
    return static_cast<std::size_t>(got);
  }
  int64_t consumed() const override { return gzoffset(file_); }

 private:
  std::string path_;
  gzFile file_;
};

class ZstdFile final : public ByteSource {
 public:
  explicit ZstdFile(const std::string& path)
      : path_(path), file_(path), stream_(ZSTD_createDStream()), buffer_(ZSTD_DStreamInSize()) {
    if (!stream_) throw std::bad_alloc();
  }
  ~ZstdFile() override { ZSTD_freeDStream(stream_); }

  std::size_t read(char* to, std::size_t size) override {
    ZSTD_outBuffer out{to, size, 0};
    while (out.pos == 0) {
      if (input_.pos == input_.size) {
        input_ = {buffer_.data(), file_.read(buffer_.data(), buffer_.size()), 0};
        if (input_.size == 0 && frame_open_) fail(path_, "the zstd data end too early");
        if (input_.size == 0) return 0;
      }
      const std::size_t hint = ZSTD_decompressStream(stream_, &out, &input_);
      if (ZSTD_isError(hint)) fail(path_, std::string("not valid zstd: ") + ZSTD_getErrorName(hint));
      frame_open_ = hint != 0;
    }
    return out.pos;
  }
  int64_t consumed() const override { return file_.consumed(); }

 private:
  std::string path_;
  PlainFile file_;
  ZSTD_DStream* stream_;
  std::vector<char> buffer_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  bool frame_open_ = false;  // within a frame
};

}  // namespace

std::unique_ptr<ByteSource> open_bytes(const std::string& path) {
  if (path.ends_with(".gz")) return std::make_unique<GzipFile>(path);
  if (path.ends_with(".zst")) return std::make_unique<ZstdFile>(path);
  return std::make_unique<PlainFile>(path);
}

}  // namespace qwen3::data
