#include "checkpoint/json_stream.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace qwen3::checkpoint {
namespace {

constexpr int64_t kMaxBlankBytes = 1 << 20;  // between tokens, in all; writers pad with fewer than 8

void append_utf8(uint32_t code, std::string& text) {
  const auto tail = [&](int shift) { text.push_back(static_cast<char>(0x80 | (code >> shift & 0x3f))); };
  if (code < 0x80) {
    text.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    text.push_back(static_cast<char>(0xc0 | code >> 6));
    tail(0);
  } else if (code < 0x10000) {
    text.push_back(static_cast<char>(0xe0 | code >> 12));
    tail(6);
    tail(0);
  } else {
    text.push_back(static_cast<char>(0xf0 | code >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

}  // namespace

JsonStream::JsonStream(const InputFile& file, int64_t begin, int64_t size, std::string what)
    : file_(file), what_(std::move(what)), next_(begin), end_(begin + size) {}

void JsonStream::fail(std::string_view problem) const {
  throw JsonStreamError{absl::InvalidArgumentError(absl::StrCat(
      file_.path(), ": ", what_, " byte ", taken_, ": ", where, absl::string_view(problem.data(), problem.size())))};
}

void JsonStream::refill() {
  const auto size = static_cast<size_t>(std::min<int64_t>(static_cast<int64_t>(buffer_.size()), end_ - next_));
  absl::Status status = file_.read(next_, std::as_writable_bytes(std::span(buffer_.data(), size)));
  if (!status.ok()) throw JsonStreamError{status};
  next_ += static_cast<int64_t>(size);
  position_ = 0;
  filled_ = size;
}

int JsonStream::peek() {
  if (position_ == filled_) refill();
  return position_ == filled_ ? kEnd : static_cast<unsigned char>(buffer_[position_]);
}

int JsonStream::take() {
  const int byte = peek();
  if (byte != kEnd) ++position_, ++taken_;
  return byte;
}

void JsonStream::skip_blanks() {
  for (int c = peek(); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = peek()) {
    take();
    if (++blanks_ > kMaxBlankBytes) fail("over 1 MiB of blanks");
  }
}

bool JsonStream::next_is(char c) {
  skip_blanks();
  return peek() == c;
}

bool JsonStream::take_if(char c) {
  const bool is = next_is(c);
  if (is) take();
  return is;
}

void JsonStream::expect(char wanted) {
  skip_blanks();
  const int got = peek();
  if (got == kEnd) fail(absl::StrCat("not valid JSON: ends where '", std::string(1, wanted), "' is wanted"));
  if (got != wanted) {
    fail(absl::StrCat("not valid JSON for ", what_ == "index" ? "an " : "a ", what_, ": got '",
                      absl::CEscape(std::string(1, static_cast<char>(got))), "', want '", std::string(1, wanted), "'"));
  }
  take();
}

std::vector<int64_t> JsonStream::numbers(int64_t limit) {
  std::vector<int64_t> list;
  expect('[');
  if (take_if(']')) return list;
  do {
    list.push_back(number());
    if (static_cast<int64_t>(list.size()) > limit) fail(absl::StrCat("a list of over ", limit, " numbers"));
  } while (take_if(','));
  expect(']');
  return list;
}

int64_t JsonStream::number() {
  skip_blanks();
  const int first = peek();
  if (first < '0' || first > '9') fail("want a non-negative whole number");
  int64_t value = 0;
  int digits = 0;
  for (int c = first; c >= '0' && c <= '9'; c = peek(), ++digits) {
    if (value > (std::numeric_limits<int64_t>::max() - (c - '0')) / 10) fail("a number over 2^63 - 1");
    value = value * 10 + (c - '0');
    take();
  }
  if (digits > 1 && first == '0') fail("a number with a leading zero");
  return value;
}

std::string JsonStream::string(int64_t limit) {
  expect('"');
  std::string text;
  while (true) {
    const int c = take();
    if (c == kEnd) fail("not valid JSON: ends inside a string");
    if (c == '"') return text;
    if (c < 0x20) fail("not valid JSON: a control character in a string");
    if (c == '\\') {
      escape(text);
    } else {
      text.push_back(static_cast<char>(c));
    }
    if (static_cast<int64_t>(text.size()) > limit) fail(absl::StrCat("a string of over ", limit, " bytes"));
  }
}

void JsonStream::escape(std::string& text) {
  static constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
  const int c = take();
  if (c == 'u') return code_point(text);
  const size_t index = c == kEnd ? std::string_view::npos : kLetters.find(static_cast<char>(c));
  if (index == std::string_view::npos) fail("not valid JSON: unknown escape in a string");
  text.push_back(kMeanings[index]);
}

uint32_t JsonStream::four_hex_digits() {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    const int c = take();
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) fail("not valid JSON: want four hex digits after \\u");
    value = value * 16 + static_cast<uint32_t>(digit);
  }
  return value;
}

void JsonStream::code_point(std::string& text) {
  uint32_t code = four_hex_digits();
  if (code >= 0xdc00 && code < 0xe000) fail("not valid JSON: half a surrogate pair");
  if (code >= 0xd800 && code < 0xdc00) {
    if (take() != '\\' || take() != 'u') fail("not valid JSON: half a surrogate pair");
    const uint32_t second = four_hex_digits();
    if (second < 0xdc00 || second >= 0xe000) fail("not valid JSON: half a surrogate pair");
    code = 0x10000 + ((code - 0xd800) << 10) + (second - 0xdc00);
  }
  append_utf8(code, text);
}

// Brackets are balanced and strings end; what lies between is not looked at, since nothing of it is used.
void JsonStream::skip() {
  const int64_t begin = taken_;
  int64_t depth = 0;
  do {
    skip_blanks();
    const int c = peek();
    if (c == kEnd) fail("not valid JSON: ends inside a value");
    if (c == '"') {
      string(kMaxSkipped);
    } else if (c == '{' || c == '[') {
      ++depth, take();
    } else if (c == '}' || c == ']') {
      if (--depth < 0) fail("not valid JSON: a value is missing");
      take();
    } else if ((c == ',' || c == ':') && depth > 0) {
      take();
      continue;
    } else {
      int bytes = 0;
      for (int d = c;
           d != kEnd && std::string_view(",:{}[]\" \t\n\r").find(static_cast<char>(d)) == std::string_view::npos;
           d = peek(), ++bytes) {
        take();
        if (taken_ - begin > kMaxSkipped) break;
      }
      if (bytes == 0) fail("not valid JSON: a value is missing");
    }
    if (taken_ - begin > kMaxSkipped) fail(absl::StrCat("a value of over ", kMaxSkipped, " bytes"));
  } while (depth > 0);
}

void JsonStream::end() {
  skip_blanks();
  if (peek() != kEnd) fail("text after the closing brace");
}

}  // namespace qwen3::checkpoint
