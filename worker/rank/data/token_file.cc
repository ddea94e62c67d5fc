#include "worker/rank/data/token_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace qwen3::data {
namespace {

constexpr char kMagic[9] = "Q3TOKENS";

std::runtime_error token_file_error(const std::string& path, const std::string& what) {
  return std::runtime_error("token file " + path + ": " + what);
}

// For what the system refused: errno says why.
std::system_error system_error(const std::string& path, const char* what) {
  return {errno, std::generic_category(), "token file " + path + ": " + what};
}

// Back to the start, with all that was written in the file: rewind() alone would hide that it does not fit.
void flush_and_rewind(std::FILE* file, const std::string& path) {
  if (std::fflush(file) != 0) throw system_error(path, "cannot write");
  std::rewind(file);
}

std::FILE* unnamed_file(const std::string& beside) {
  const std::string folder = std::filesystem::path(beside).parent_path();
  const int unnamed = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  std::FILE* file = unnamed >= 0 ? ::fdopen(unnamed, "w+b") : std::tmpfile();
  if (!file) throw system_error(beside, "no temporary file");
  return file;
}

}  // namespace

TokenFileWriter::TokenFileWriter(const std::string& path, int64_t vocab)
    : path_(path), temporary_(path + ".tmp." + std::to_string(::getpid())), header_{} {
  std::memcpy(header_.magic, kMagic, sizeof(header_.magic));
  header_.version = kTokenFileVersion;
  header_.token_bytes = vocab <= 65536 ? 2 : 4;
  file_ = std::fopen(temporary_.c_str(), "wbe");
  if (!file_) throw system_error(temporary_, "cannot create");
  for (std::FILE** list : {&ends_, &responses_}) *list = unnamed_file(path);
  write(file_, &header_, sizeof(header_));
}

TokenFileWriter::~TokenFileWriter() {
  for (std::FILE* list : {ends_, responses_}) {
    if (list) std::fclose(list);
  }
  if (!file_) return;
  std::fclose(file_);
  ::unlink(temporary_.c_str());
}

void TokenFileWriter::write(std::FILE* file, const void* data, std::size_t bytes) {
  if (std::fwrite(data, 1, bytes, file) != bytes) throw system_error(temporary_, "cannot write");
}

void TokenFileWriter::append(std::span<const int32_t> ids) {
  if (ids.empty()) return;
  header_.tokens += ids.size();
  header_.largest_id = std::max<uint64_t>(header_.largest_id, static_cast<uint64_t>(std::ranges::max(ids)));
  if (header_.token_bytes == 4) return write(file_, ids.data(), ids.size_bytes());
  const std::vector<uint16_t> narrow(ids.begin(), ids.end());
  write(file_, narrow.data(), narrow.size() * sizeof(uint16_t));
}

void TokenFileWriter::end_document() {
  ++header_.documents;
  write(ends_, &header_.tokens, sizeof(header_.tokens));
}

void TokenFileWriter::begin_response() {
  header_.has_responses = 1;
  write(responses_, &header_.tokens, sizeof(header_.tokens));
}

void TokenFileWriter::finish() {
  const uint64_t end = sizeof(header_) + header_.tokens * header_.token_bytes;
  header_.documents_offset = (end + 7) / 8 * 8;
  const char padding[8] = {};
  write(file_, padding, header_.documents_offset - end);
  std::vector<char> buffer(1 << 20);
  for (std::FILE* list : {ends_, responses_}) {
    flush_and_rewind(list, temporary_);
    for (std::size_t got; (got = std::fread(buffer.data(), 1, buffer.size(), list)) > 0;) {
      write(file_, buffer.data(), got);
    }
  }
  flush_and_rewind(file_, temporary_);
  write(file_, &header_, sizeof(header_));
  if (std::fflush(file_) != 0 || ::fsync(::fileno(file_)) != 0 || std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    throw system_error(path_, "cannot write");
  }
  std::fclose(file_);
  file_ = nullptr;
}

TokenFile::TokenFile(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw system_error(path, "cannot open");
  struct stat info {};
  if (::fstat(file, &info) == 0) mapped_bytes_ = static_cast<std::size_t>(info.st_size);
  void* data = mapped_bytes_ < sizeof(TokenFileHeader) ? MAP_FAILED
                                                       : ::mmap(nullptr, mapped_bytes_, PROT_READ, MAP_SHARED, file, 0);
  ::close(file);
  if (data == MAP_FAILED) throw token_file_error(path, "cannot be mapped, or is too short for its header");
  header_ = static_cast<const TokenFileHeader*>(data);
  const TokenFileHeader& header = *header_;
  const bool known = std::memcmp(header.magic, kMagic, sizeof(header.magic)) == 0 &&
                     header.version == kTokenFileVersion && (header.token_bytes == 2 || header.token_bytes == 4);
  // Each bound before the product that needs it, so that nothing overflows.
  const uint64_t lists = known && header.has_responses == 1 ? 2 : 1;
  const bool whole = known && header.tokens <= mapped_bytes_ && header.documents <= mapped_bytes_ / 8 &&
                     header.documents_offset % 8 == 0 && header.documents_offset <= mapped_bytes_ &&
                     header.documents_offset >= sizeof(header) + header.tokens * header.token_bytes &&
                     header.documents_offset + header.documents * 8 * lists == mapped_bytes_;
  if (!whole) {
    ::munmap(data, mapped_bytes_);
    throw token_file_error(path, known ? "is cut short" : "is not a token file of this version");
  }
  const char* const bytes = static_cast<const char*>(data);
  if (header.token_bytes == 2) narrow_ = reinterpret_cast<const uint16_t*>(bytes + sizeof(header));
  if (header.token_bytes == 4) wide_ = reinterpret_cast<const uint32_t*>(bytes + sizeof(header));
  const auto* first = reinterpret_cast<const uint64_t*>(bytes + header.documents_offset);
  ends_ = {first, header.documents};
  if (lists == 2) responses_ = {first + header.documents, header.documents};
}

TokenFile::~TokenFile() { ::munmap(const_cast<TokenFileHeader*>(header_), mapped_bytes_); }

}  // namespace qwen3::data
