// JSON read straight from a file, for texts of a known grammar that nobody vouches for: the caller says what it wants
// next and how long it may be, so a file never chooses how much is allocated. A general JSON parser buffers whole
// tokens first.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "checkpoint/file.h"

namespace qwen3::checkpoint {

// Thrown by JsonStream and caught by the function that made it: a recursive descent whose every step can fail.
struct JsonStreamError {
  absl::Status status;  // INVALID_ARGUMENT with path, byte and what is wrong, or the file's own error
};

class JsonStream {
 public:
  // Bytes [begin, begin + size) of the file, which must outlive this. `what` they are, for messages: "header".
  JsonStream(const InputFile& file, int64_t begin, int64_t size, std::string what);

  // {"key": VALUE, ...}; value(key) reads VALUE. A key has at most `max_key` bytes.
  template <typename Value>
  void members(int64_t max_key, Value value) {
    expect('{');
    if (!take_if('}')) {
      do {
        std::string key = string(max_key);
        expect(':');
        value(std::move(key));
      } while (take_if(','));
      expect('}');
    }
  }
  // [N, ...]: at most `limit` numbers.
  std::vector<int64_t> numbers(int64_t limit);
  // A whole number from 0 to 2^63 - 1.
  int64_t number();
  // At most `limit` bytes, escapes resolved.
  std::string string(int64_t limit);
  // Any value of at most `kMaxSkipped` bytes, of which nothing is kept.
  void skip();
  // Nothing but blanks may follow.
  void end();

  // What is being read, in front of every message: "tensor \"a\": ".
  std::string where;
  [[noreturn]] void fail(std::string_view problem) const;

  static constexpr int64_t kMaxSkipped = 64 << 10;

 private:
  static constexpr int kEnd = -1;

  int peek();
  int take();
  void refill();
  void skip_blanks();
  bool next_is(char c);
  bool take_if(char c);
  void expect(char wanted);
  void escape(std::string& text);
  void code_point(std::string& text);
  uint32_t four_hex_digits();

  const InputFile& file_;
  std::string what_;
  int64_t next_;  // file offset
  int64_t end_;
  std::array<char, 32 << 10> buffer_;
  size_t position_ = 0;
  size_t filled_ = 0;
  int64_t taken_ = 0;
  int64_t blanks_ = 0;
};

}  // namespace qwen3::checkpoint
