// What the exit status of qwen3ctl means; scripts rely on it.
#pragma once
#include "absl/status/status.h"
#include "google/longrunning/operations.pb.h"
#include "qwen3/v1/job.pb.h"

namespace qwen3::client {

enum ExitCode : int {
  kSucceeded = 0,
  kUsage = 1,    // bad command line, unreadable file, anything not listed below
  kRefused = 2,  // the request is invalid or not possible now
  kNotFound = 3,
  kDenied = 4,           // unauthenticated or not permitted
  kUnavailable = 5,      // no answer after the retries
  kJobFailedUser = 10,   // the job FAILED by its own doing
  kJobFailedInfra = 11,  // the job FAILED by infrastructure or a defect of this software
  kJobCancelled = 12,
  kDeadline = 13,   // a call did not answer in time
  kTimeout = 124,   // --timeout has passed, as timeout(1)
  kDetached = 130,  // Ctrl-C; the job goes on
};

ExitCode exit_code(const absl::Status& status);
// Of a terminal job.
ExitCode exit_code(const v1::Job& job);
// Of an operation that is done, by the same numbers.
ExitCode exit_code(const google::longrunning::Operation& operation);

}  // namespace qwen3::client
