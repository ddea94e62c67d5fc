// An absl::Status as what a rank throws: the error boundary still sees whose fault it is.
#pragma once
#include <stdexcept>
#include <string>

#include "absl/status/status.h"

namespace qwen3::rank {

class StatusError : public std::runtime_error {
 public:
  // `what` names the thing that failed; the status says why.
  StatusError(const std::string& what, const absl::Status& status)
      : std::runtime_error(what + ": " + std::string(status.message())), code_(status.code()) {}
  absl::StatusCode code() const { return code_; }

 private:
  absl::StatusCode code_;
};

// What a job was to go on from is damaged or gone; perhaps an older checkpoint is not.
class UnreadableCheckpoint : public StatusError {
 public:
  using StatusError::StatusError;
};

}  // namespace qwen3::rank
