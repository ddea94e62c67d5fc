#include "worker/rank/data/tokenize.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/unicode.h"
#include "worker/rank/data/byte_source.h"
#include "worker/rank/data/json_line.h"

namespace qwen3::data {
namespace {

constexpr std::size_t kReadBytes = 4 << 20;

// Text that was read and not yet tokenised, and where in the file it stands.
class Pending {
 public:
  explicit Pending(const TextFile& file) : path_(file.path), source_(open_bytes(file.path)) {}

  std::string_view text() const { return std::string_view(buffer_).substr(start_); }
  bool at_end() const { return at_end_; }
  int64_t line() const { return line_; }
  int64_t consumed() const { return source_->consumed(); }

  // Reads some more behind text().
  void read() {
    buffer_.erase(0, start_);
    start_ = 0;
    if (static_cast<int64_t>(buffer_.size()) > kMaxStretchBytes) {
      fail(line_, "is longer than " + std::to_string(kMaxStretchBytes >> 20) + " MiB without a place to cut it");
    }
    const std::size_t before = buffer_.size();
    buffer_.resize(before + kReadBytes);
    const std::size_t got = source_->read(buffer_.data() + before, kReadBytes);
    buffer_.resize(before + got);
    at_end_ = got == 0;
  }

  void drop(std::size_t bytes) {
    line_ += std::ranges::count(text().substr(0, bytes), '\n');
    start_ += bytes;
    offset_ += static_cast<int64_t>(bytes);
  }

  [[noreturn]] void fail(int64_t line, const std::string& what) const {
    throw std::runtime_error("data file " + path_ + ": line " + std::to_string(line) + " " + what);
  }

  [[noreturn]] void fail_utf8(std::size_t at) const {
    char byte[8];
    std::snprintf(byte, sizeof(byte), "0x%02X", static_cast<unsigned char>(text()[at]));
    fail(line_ + std::ranges::count(text().substr(0, at), '\n'),
         "is not UTF-8: byte " + std::string(byte) + " at offset " +
             std::to_string(offset_ + static_cast<int64_t>(at)) + " of the text");
  }

 private:
  std::string path_;
  std::unique_ptr<ByteSource> source_;
  std::string buffer_;
  std::size_t start_ = 0;  // of text() within buffer_
  int64_t line_ = 1;       // of text()'s first byte
  int64_t offset_ = 0;     // of text()'s first byte in the decompressed file
  bool at_end_ = false;
};

void tokenize_text(const TextFile& file, const tokenizer::Tokenizer& tokenizer, int threads, TokenFileWriter& writer,
                   const std::function<void(int64_t)>& progress) {
  Pending pending(file);
  const int64_t first = writer.tokens();
  std::size_t valid = 0;  // bytes at the front of pending.text() that are known to be UTF-8
  const auto flush = [&](std::size_t bytes) {
    const absl::StatusOr<std::vector<int32_t>> ids = tokenizer.encode(pending.text().substr(0, bytes), threads);
    if (!ids.ok()) pending.fail(pending.line(), std::string(ids.status().message()));
    writer.append(*ids);
    pending.drop(bytes);
    valid -= bytes;
    progress(pending.consumed());
  };
  while (!pending.at_end()) {
    pending.read();
    const std::string_view text = pending.text();
    const std::size_t searched = valid < 8 ? 0 : valid - 8;  // in front of it there is no place to cut
    const auto bad = tokenizer::find_invalid_utf8(text.substr(valid));
    const bool cut_character = bad && !pending.at_end() && valid + *bad + 3 >= text.size();
    if (bad && !cut_character) pending.fail_utf8(valid + *bad);
    valid = bad ? valid + *bad : text.size();
    const std::size_t cut = tokenizer.last_safe_cut(text.substr(searched, valid - searched));
    if (cut > 0) flush(searched + cut);
  }
  if (!pending.text().empty()) flush(pending.text().size());
  if (writer.tokens() == first) return;
  writer.append(std::vector<int32_t>{tokenizer.eos_id()});
  writer.end_document();
}

void tokenize_json_lines(const TextFile& file, const tokenizer::Tokenizer& tokenizer, const LineKeys& keys, int threads,
                         TokenFileWriter& writer, const std::function<void(int64_t)>& progress) {
  Pending pending(file);
  const bool pairs = !keys.prompt.empty();
  const std::vector<std::string> wanted =
      pairs ? std::vector<std::string>{keys.prompt, keys.response} : std::vector<std::string>{"text"};
  std::vector<std::string> texts;  // of each document its texts, in the order of `wanted`
  std::size_t bytes = 0;           // of texts
  const auto flush = [&] {
    const std::vector<std::string_view> views(texts.begin(), texts.end());
    const auto batch = tokenizer.encode_batch(views, threads);
    if (!batch.ok()) pending.fail(pending.line(), "or one before it: " + std::string(batch.status().message()));
    for (std::size_t i = 0; i < batch->size(); ++i) {
      if (pairs && i % 2 == 1) writer.begin_response();
      writer.append((*batch)[i]);
      if (pairs && i % 2 == 0) continue;
      writer.append(std::vector<int32_t>{tokenizer.eos_id()});
      writer.end_document();
    }
    texts.clear();
    bytes = 0;
    progress(pending.consumed());
  };
  const auto take_line = [&](std::string_view line) {
    if (line.find_first_not_of(" \t\r\n") == std::string_view::npos) return;
    if (const auto bad = tokenizer::find_invalid_utf8(line)) pending.fail_utf8(*bad);
    std::vector<std::string> strings;
    try {
      strings = strings_of_json_line(line, wanted);
      if (pairs && strings.back().empty()) throw std::runtime_error("\"" + keys.response + "\" is empty");
    } catch (const std::runtime_error& e) {
      pending.fail(pending.line(), e.what());
    }
    if (strings.back().empty()) return;
    for (std::string& text : strings) {
      bytes += text.size();
      texts.push_back(std::move(text));
    }
    if (bytes >= kReadBytes) flush();
  };
  std::size_t searched = 0;  // bytes of pending.text() without a line end
  while (!pending.at_end()) {
    pending.read();
    for (std::size_t end; (end = pending.text().find('\n', searched)) != std::string_view::npos; searched = 0) {
      take_line(pending.text().substr(0, end));
      pending.drop(end + 1);
    }
    searched = pending.text().size();
  }
  if (!pending.text().empty()) take_line(pending.text());
  flush();
}

}  // namespace

void tokenize_file(const TextFile& file, const tokenizer::Tokenizer& tokenizer, const LineKeys& keys, int threads,
                   TokenFileWriter& writer, const std::function<void(int64_t)>& progress) {
  if (file.jsonl) return tokenize_json_lines(file, tokenizer, keys, threads, writer, progress);
  if (!keys.prompt.empty()) {
    throw std::runtime_error("data file " + file.path + ": prompt_key \"" + keys.prompt +
                             "\" needs JSON lines, wanted a name in .jsonl, .jsonl.gz or .jsonl.zst");
  }
  tokenize_text(file, tokenizer, threads, writer, progress);
}

}  // namespace qwen3::data
