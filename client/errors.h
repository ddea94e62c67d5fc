// How a failed call is told to a person.
#pragma once
#include <functional>
#include <iosfwd>
#include <string>

#include "absl/status/status.h"

namespace qwen3::client {

// Field path ("training.steps") -> "FILE:LINE" of the place that set it; empty: not known.
using Locate = std::function<std::string(const std::string& field)>;

// "qwen3ctl: NOT_FOUND: sentence"; or, when the status carries a google.rpc.BadRequest, one line for each violation:
// "FILE:LINE: training.steps: sentence" (without the place when it is not known, and the field once).
void print_error(std::ostream& err, const absl::Status& status, const Locate& locate = nullptr);

}  // namespace qwen3::client
