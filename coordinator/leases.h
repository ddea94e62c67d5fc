// Which workers are alive, by time since they were last heard. Pure: the caller passes a steady `now`.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace qwen3::coordinator {

class Leases {
 public:
  struct Bounds {
    absl::Duration lease = absl::Seconds(5);        // from the last message of a connected worker
    absl::Duration reconnect = absl::Seconds(3);    // from the end of its session
    absl::Duration boot_grace = absl::Seconds(15);  // nothing expires for so long after our start
    absl::Duration frozen = absl::Seconds(2);       // a longer gap between two expire() calls is our own freeze
  };
  Leases(Bounds bounds, absl::Time boot);

  // A worker that a running attempt needs and that has not been heard since our start.
  void expect(const std::string& worker, absl::Time now);
  // Any message of a connected worker, its first included.
  void heard(const std::string& worker, absl::Time now);
  // Its session ended; it has `reconnect` to come back.
  void disconnected(const std::string& worker, absl::Time now);

  // The workers that are lost by now, sorted; each is named once and forgotten. Call it often: time in which we
  // ourselves did not run is given back to every worker.
  std::vector<std::string> expire(absl::Time now);

 private:
  Bounds bounds_;
  absl::Time nothing_before_;
  absl::Time last_call_;
  std::map<std::string, absl::Time> deadlines_;
};

}  // namespace qwen3::coordinator
