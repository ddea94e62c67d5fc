// Tokenised text on disk: a header, the token ids (2 bytes each where the vocabulary fits, else 4), and where each
// document ends; of examples with a prompt and a response also where each response begins. Little-endian, memory-mapped
// by its readers, never changed once it has its name.
#pragma once
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>

namespace qwen3::data {

inline constexpr uint32_t kTokenFileVersion = 2;

struct TokenFileHeader {
  char magic[8];  // "Q3TOKENS"
  uint32_t version;
  uint32_t token_bytes;  // 2 or 4
  uint64_t tokens;
  uint64_t documents;
  uint64_t largest_id;
  uint64_t documents_offset;  // in bytes, of `documents` uint64: index of the token after the document's last
  uint64_t has_responses;     // 1: after those another `documents` uint64: index of the response's first token
};

// Writes a token file under a temporary name; finish() gives it its name. All methods throw std::system_error.
class TokenFileWriter {
 public:
  // `vocab` decides the width of a token.
  TokenFileWriter(const std::string& path, int64_t vocab);
  ~TokenFileWriter();  // without finish(): the temporary files are removed
  TokenFileWriter(const TokenFileWriter&) = delete;
  TokenFileWriter& operator=(const TokenFileWriter&) = delete;

  void append(std::span<const int32_t> ids);
  void end_document();
  // What follows in this document is its response. Called for every document or for none.
  void begin_response();
  int64_t tokens() const { return static_cast<int64_t>(header_.tokens); }
  void finish();

 private:
  void write(std::FILE* file, const void* data, std::size_t bytes);

  std::string path_;
  std::string temporary_;
  std::FILE* file_ = nullptr;
  std::FILE* ends_ = nullptr;       // an unnamed file: the ends, until the tokens are complete
  std::FILE* responses_ = nullptr;  // an unnamed file: the responses' begins
  TokenFileHeader header_;
};

// A mapped token file; may be shared by threads.
class TokenFile {
 public:
  // Throws std::runtime_error if the file is not a whole token file of this version, std::system_error if it cannot be
  // opened.
  explicit TokenFile(const std::string& path);
  ~TokenFile();
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  int64_t tokens() const { return static_cast<int64_t>(header_->tokens); }
  int64_t documents() const { return static_cast<int64_t>(header_->documents); }
  int64_t largest_id() const { return static_cast<int64_t>(header_->largest_id); }
  int64_t token(int64_t index) const { return narrow_ ? narrow_[index] : wide_[index]; }
  // Of each document, the index of the token after its last; rising, the last one is tokens().
  std::span<const uint64_t> document_ends() const { return ends_; }
  // Of each document, the index of its response's first token; empty: the documents are plain text.
  std::span<const uint64_t> response_begins() const { return responses_; }

 private:
  const TokenFileHeader* header_ = nullptr;
  const uint16_t* narrow_ = nullptr;  // one of the two is set
  const uint32_t* wide_ = nullptr;
  std::span<const uint64_t> ends_;
  std::span<const uint64_t> responses_;
  std::size_t mapped_bytes_ = 0;
};

}  // namespace qwen3::data
