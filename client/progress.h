// The live view of a running job. On a terminal one line with a bar is drawn over and over; elsewhere each report is a
// line of its own. Notes (state changes, lost connections) are lines above it. Thread-safe.
#pragma once
#include <cstdint>
#include <iosfwd>
#include <mutex>
#include <string>

#include "qwen3/v1/watch.pb.h"

namespace qwen3::client {

class Progress {
 public:
  Progress(std::ostream& out, bool terminal, int64_t total_steps);
  void report(const v1::StepReport& report);
  void note(const std::string& line);
  void finish();  // leaves the cursor on a fresh line

 private:
  void clear_line();

  std::ostream& out_;
  const bool terminal_;
  const int64_t total_steps_;
  std::mutex mu_;
  double seconds_per_step_ = 0;  // smoothed over about ten reports; 0: none yet
  std::string line_;             // what the terminal shows
};

}  // namespace qwen3::client
