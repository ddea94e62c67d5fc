// The progress line of a download: "model-00002-of-00005.safetensors  3.1 of 8.0 GiB  95.2 MiB/s  ETA 52s".
#pragma once
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>

#include "absl/time/time.h"

namespace qwen3::client::download {

// On a terminal one line drawn over and over, elsewhere a line now and then. Notes are lines above it.
class Meter {
 public:
  Meter(std::ostream& out, bool terminal, std::function<absl::Time()> now);

  // From here on `name` is being fetched; `total` bytes are to be had altogether, `done` of them are there.
  void start(const std::string& name, int64_t done, int64_t total);
  void advance(int64_t done);  // bytes of all files together; fewer than before: a file started over
  void note(const std::string& line);
  void finish();  // leaves the cursor on a fresh line

 private:
  void draw(absl::Time at);
  void clear_line();

  std::ostream& out_;
  const bool terminal_;
  const std::function<absl::Time()> now_;
  std::string name_;
  int64_t done_ = 0, total_ = 0;
  // The rate is that since a mark which follows at some distance.
  absl::Time mark_time_, drawn_;
  int64_t mark_done_ = 0;
  double bytes_per_second_ = 0;  // 0: not known yet
  bool line_shown_ = false;
};

}  // namespace qwen3::client::download
