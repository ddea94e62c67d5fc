#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace qwen3::checkpoint {
namespace {

constexpr int64_t kMaxBlankBytes = 1 << 20;  // between tokens, in all; writers pad with fewer than 8
constexpr int64_t kEntryCost = 160;          // bytes of an entry's nodes besides its name

// Thrown and caught in this file only: the parser is a recursive descent whose every step can fail.
struct HeaderError {
  absl::Status status;
};

// Bytes of the header, one at a time, through a small buffer.
class HeaderBytes {
 public:
  HeaderBytes(const InputFile& file, int64_t begin, int64_t size) : file_(file), next_(begin), end_(begin + size) {}

  static constexpr int kEnd = -1;

  int peek() {
    if (position_ == filled_) refill();
    return position_ == filled_ ? kEnd : static_cast<unsigned char>(buffer_[position_]);
  }
  int take() {
    const int byte = peek();
    if (byte != kEnd) ++position_, ++taken_;
    return byte;
  }
  int64_t taken() const { return taken_; }

 private:
  void refill() {
    const auto size = static_cast<size_t>(std::min<int64_t>(static_cast<int64_t>(buffer_.size()), end_ - next_));
    absl::Status status = file_.read(next_, std::as_writable_bytes(std::span(buffer_.data(), size)));
    if (!status.ok()) throw HeaderError{status};
    next_ += static_cast<int64_t>(size);
    position_ = 0;
    filled_ = size;
  }

  const InputFile& file_;
  int64_t next_;
  int64_t end_;
  std::array<char, 32 << 10> buffer_;
  size_t position_ = 0;
  size_t filled_ = 0;
  int64_t taken_ = 0;
};

class HeaderParser {
 public:
  HeaderParser(const InputFile& file, int64_t begin, int64_t size, SafetensorsHeader* header)
      : path_(file.path()), bytes_(file, begin, size), header_(*header) {}

  void parse() {
    members([&](std::string name) {
      if (name == "__metadata__") {
        metadata();
      } else {
        tensor(std::move(name));
      }
    });
    skip_blanks();
    if (bytes_.peek() != HeaderBytes::kEnd) fail("text after the closing brace");
  }

 private:
  [[noreturn]] void fail(std::string_view what) const {
    throw HeaderError{absl::InvalidArgumentError(absl::StrCat(path_, ": header byte ", bytes_.taken(), ": ", where_,
                                                              absl::string_view(what.data(), what.size())))};
  }

  void keep(int64_t size) {
    kept_ += size;
    if (kept_ > kMaxKeptBytes) {
      fail(absl::StrCat("too many tensors or metadata: after ", header_.tensors.size(),
                        " tensors the header needs over ", kMaxKeptBytes, " bytes of memory"));
    }
  }

  void skip_blanks() {
    for (int c = bytes_.peek(); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = bytes_.peek()) {
      bytes_.take();
      if (++blanks_ > kMaxBlankBytes) fail("over 1 MiB of blanks");
    }
  }

  void expect(char wanted) {
    skip_blanks();
    const int got = bytes_.peek();
    if (got == HeaderBytes::kEnd)
      fail(absl::StrCat("not valid JSON: ends where '", std::string(1, wanted), "' is wanted"));
    if (got != wanted) {
      fail(absl::StrCat("not valid JSON for a header: got '", absl::CEscape(std::string(1, static_cast<char>(got))),
                        "', want '", std::string(1, wanted), "'"));
    }
    bytes_.take();
  }

  bool next_is(char c) {
    skip_blanks();
    return bytes_.peek() == c;
  }

  // {"key": VALUE, ...}; value(key) reads VALUE.
  template <typename Value>
  void members(Value value) {
    expect('{');
    if (next_is('}')) {
      bytes_.take();
      return;
    }
    while (true) {
      std::string key = string(kMaxNameBytes);
      expect(':');
      value(std::move(key));
      if (!next_is(',')) break;
      bytes_.take();
    }
    expect('}');
  }

  // [N, ...]: at most `limit` numbers.
  std::vector<int64_t> numbers(int64_t limit) {
    std::vector<int64_t> list;
    expect('[');
    if (next_is(']')) {
      bytes_.take();
      return list;
    }
    while (true) {
      list.push_back(number());
      if (static_cast<int64_t>(list.size()) > limit) fail(absl::StrCat("a list of over ", limit, " numbers"));
      if (!next_is(',')) break;
      bytes_.take();
    }
    expect(']');
    return list;
  }

  int64_t number() {
    skip_blanks();
    const int first = bytes_.peek();
    if (first < '0' || first > '9') fail("want a non-negative whole number");
    int64_t value = 0;
    int digits = 0;
    for (int c = first; c >= '0' && c <= '9'; c = bytes_.peek(), ++digits) {
      if (value > (std::numeric_limits<int64_t>::max() - (c - '0')) / 10) fail("a number over 2^63 - 1");
      value = value * 10 + (c - '0');
      bytes_.take();
    }
    if (digits > 1 && first == '0') fail("a number with a leading zero");
    return value;
  }

  std::string string(int64_t limit) {
    expect('"');
    std::string text;
    while (true) {
      const int c = bytes_.take();
      if (c == HeaderBytes::kEnd) fail("not valid JSON: ends inside a string");
      if (c == '"') break;
      if (c < 0x20) fail("not valid JSON: a control character in a string");
      if (c == '\\') {
        escape(text);
      } else {
        text.push_back(static_cast<char>(c));
      }
      if (static_cast<int64_t>(text.size()) > limit) fail(absl::StrCat("a string of over ", limit, " bytes"));
    }
    return text;
  }

  void escape(std::string& text) {
    static constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const int c = bytes_.take();
    if (c == 'u') return code_point(text);
    const size_t index = c == HeaderBytes::kEnd ? std::string_view::npos : kLetters.find(static_cast<char>(c));
    if (index == std::string_view::npos) fail("not valid JSON: unknown escape in a string");
    text.push_back(kMeanings[index]);
  }

  uint32_t four_hex_digits() {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      const int c = bytes_.take();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) fail("not valid JSON: want four hex digits after \\u");
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    return value;
  }

  void code_point(std::string& text) {
    uint32_t code = four_hex_digits();
    if (code >= 0xdc00 && code < 0xe000) fail("not valid JSON: half a surrogate pair");
    if (code >= 0xd800 && code < 0xdc00) {
      if (bytes_.take() != '\\' || bytes_.take() != 'u') fail("not valid JSON: half a surrogate pair");
      const uint32_t second = four_hex_digits();
      if (second < 0xdc00 || second >= 0xe000) fail("not valid JSON: half a surrogate pair");
      code = 0x10000 + ((code - 0xd800) << 10) + (second - 0xdc00);
    }
    if (code < 0x80) {
      text.push_back(static_cast<char>(code));
    } else if (code < 0x800) {
      text.push_back(static_cast<char>(0xc0 | code >> 6));
      text.push_back(static_cast<char>(0x80 | (code & 0x3f)));
    } else if (code < 0x10000) {
      text.push_back(static_cast<char>(0xe0 | code >> 12));
      text.push_back(static_cast<char>(0x80 | (code >> 6 & 0x3f)));
      text.push_back(static_cast<char>(0x80 | (code & 0x3f)));
    } else {
      text.push_back(static_cast<char>(0xf0 | code >> 18));
      text.push_back(static_cast<char>(0x80 | (code >> 12 & 0x3f)));
      text.push_back(static_cast<char>(0x80 | (code >> 6 & 0x3f)));
      text.push_back(static_cast<char>(0x80 | (code & 0x3f)));
    }
  }

  void metadata() {
    where_ = "__metadata__: ";
    if (std::exchange(has_metadata_, true)) fail("named twice");
    members([&](std::string key) {
      std::string value = string(kMaxMetadataBytes);
      keep(kEntryCost + static_cast<int64_t>(key.size() + value.size()));
      if (!header_.metadata.emplace(std::move(key), std::move(value)).second) fail("a key is named twice");
    });
    where_.clear();
  }

  void tensor(std::string name) {
    where_ = absl::StrCat("tensor \"", absl::CEscape(name), "\": ");
    if (name.empty()) fail("a tensor without a name");
    keep(kEntryCost + static_cast<int64_t>(name.size()));
    if (header_.tensors.contains(name)) fail("named twice");
    TensorEntry entry;
    bool has_dtype = false, has_shape = false, has_offsets = false;
    members([&](std::string key) {
      if (key == "dtype" && !std::exchange(has_dtype, true)) {
        absl::StatusOr<Dtype> dtype = parse_dtype(string(64));
        if (!dtype.ok()) fail(std::string(dtype.status().message()));
        entry.dtype = *dtype;
      } else if (key == "shape" && !std::exchange(has_shape, true)) {
        entry.shape = numbers(kMaxDims);
      } else if (key == "data_offsets" && !std::exchange(has_offsets, true)) {
        const std::vector<int64_t> offsets = numbers(2);
        if (offsets.size() != 2) fail("data_offsets are not two numbers");
        entry.begin = offsets[0];
        entry.end = offsets[1];
      } else {
        fail(absl::StrCat("key \"", absl::CEscape(key), "\" is unknown or named twice"));
      }
    });
    if (!has_dtype || !has_shape || !has_offsets) fail("needs dtype, shape and data_offsets");
    where_.clear();
    header_.tensors.emplace(std::move(name), std::move(entry));
  }

  const std::string& path_;
  HeaderBytes bytes_;
  SafetensorsHeader& header_;
  std::string where_;
  bool has_metadata_ = false;
  int64_t kept_ = 0;
  int64_t blanks_ = 0;
};

}  // namespace

absl::Status parse_header_text(const InputFile& file, int64_t begin, int64_t size, SafetensorsHeader* header) try {
  HeaderParser(file, begin, size, header).parse();
  return absl::OkStatus();
} catch (const HeaderError& error) {
  return error.status;
}

}  // namespace qwen3::checkpoint
