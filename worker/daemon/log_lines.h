// Turns the bytes a rank prints into log lines: cut at newlines, made valid UTF-8, at most 16 KiB each, and thinned
// when a rank floods. Pure: the caller passes the time.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qwen3::worker {

inline constexpr size_t kMaxLineBytes = 16 << 10;

// Each byte that is not part of a well-formed UTF-8 sequence becomes U+FFFD.
std::string repair_utf8(std::string_view bytes);

// Cuts one stream of bytes into lines, without their newline (nor a carriage return before it). A line longer than
// kMaxLineBytes goes on in the next line; no character is cut in two.
class LineSplitter {
 public:
  std::vector<std::string> feed(std::string_view bytes);
  // The line that had no newline at the end of the stream; none if empty.
  std::vector<std::string> finish();

 private:
  void cut_long(std::vector<std::string>& lines);

  std::string partial_;
};

struct LogLine {
  std::string line;
  bool is_stderr = false;
  int64_t dropped = 0;  // lines left out before this one
};

// A token bucket over lines and bytes. A line that finds it empty is dropped and counted; the next that passes says
// how many were.
class LogThrottle {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr double kLinesPerSecond = 1000, kLinesBurst = 5000;
  static constexpr double kBytesPerSecond = 1 << 20, kBytesBurst = 8 << 20;

  // Whether the line passes; if so its `dropped` is filled in.
  bool admit(LogLine& line, Time now);
  // Lines dropped that no later line has told of; zero afterwards.
  int64_t take_dropped();

 private:
  void refill(Time now);

  double lines_ = kLinesBurst;
  double bytes_ = kBytesBurst;
  int64_t dropped_ = 0;
  Time last_{};
};

}  // namespace qwen3::worker
