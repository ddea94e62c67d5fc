#include "worker/daemon/log_lines.h"

#include <algorithm>
#include <utility>

namespace qwen3::worker {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// Bytes of the well-formed sequence (Unicode table 3-7) that `bytes` begins with; 0: none. REQUIRES: not empty.
size_t sequence_length(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return 1;
  size_t length = 0;
  unsigned char low = 0x80, high = 0xBF;  // of the second byte: no overlong forms, surrogates or values over U+10FFFF
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  }
  if (length == 0 || bytes.size() < length || at(1) < low || at(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if (!is_continuation(bytes[i])) return 0;
  }
  return length;
}

// The largest cut at or below `size` that leaves no character in two.
size_t cut_before(std::string_view bytes, size_t size) {
  if (bytes.size() <= size) return bytes.size();
  size_t cut = size;
  while (cut > size - 4 && is_continuation(bytes[cut])) --cut;
  return cut > size - 4 ? cut : size;  // four continuation bytes in a row are no character anyway
}

// Valid, and within the limit even where the repair made it longer.
std::string clean(std::string_view line) {
  std::string valid = repair_utf8(line);
  valid.resize(cut_before(valid, kMaxLineBytes));
  return valid;
}

}  // namespace

std::string repair_utf8(std::string_view bytes) {
  std::string valid;
  valid.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t length = sequence_length(bytes);
    valid.append(length == 0 ? kReplacement : bytes.substr(0, length));
    bytes.remove_prefix(std::max<size_t>(1, length));
  }
  return valid;
}

std::vector<std::string> LineSplitter::feed(std::string_view bytes) {
  std::vector<std::string> lines;
  while (true) {
    const size_t newline = bytes.find('\n');
    partial_.append(bytes.substr(0, newline));
    cut_long(lines);
    if (newline == std::string_view::npos) return lines;
    if (!partial_.empty() && partial_.back() == '\r') partial_.pop_back();
    lines.push_back(clean(partial_));
    partial_.clear();
    bytes.remove_prefix(newline + 1);
  }
}

std::vector<std::string> LineSplitter::finish() {
  std::vector<std::string> lines;
  if (!partial_.empty()) lines.push_back(clean(std::exchange(partial_, "")));
  return lines;
}

void LineSplitter::cut_long(std::vector<std::string>& lines) {
  size_t begin = 0;
  while (partial_.size() - begin > kMaxLineBytes) {
    const std::string_view rest = std::string_view(partial_).substr(begin);
    const size_t cut = cut_before(rest, kMaxLineBytes);
    lines.push_back(clean(rest.substr(0, cut)));
    begin += cut;
  }
  partial_.erase(0, begin);
}

bool LogThrottle::admit(LogLine& line, Time now) {
  refill(now);
  const auto size = static_cast<double>(line.line.size());
  if (lines_ < 1 || bytes_ < size) {
    ++dropped_;
    return false;
  }
  lines_ -= 1;
  bytes_ -= size;
  line.dropped = take_dropped();
  return true;
}

int64_t LogThrottle::take_dropped() { return std::exchange(dropped_, 0); }

void LogThrottle::refill(Time now) {
  const double seconds = std::max(0.0, std::chrono::duration<double>(now - last_).count());
  last_ = now;
  lines_ = std::min(kLinesBurst, lines_ + seconds * kLinesPerSecond);
  bytes_ = std::min(kBytesBurst, bytes_ + seconds * kBytesPerSecond);
}

}  // namespace qwen3::worker
