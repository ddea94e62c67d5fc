// How single values read in tables and sentences.
#pragma once
#include <google/protobuf/timestamp.pb.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "qwen3/v1/checkpoint.pb.h"
#include "qwen3/v1/job.pb.h"
#include "qwen3/v1/worker.pb.h"

namespace qwen3::client {

std::string state_word(v1::JobState state);                      // "RUNNING"
std::string state_word(v1::WorkerState state);                   // "READY"
std::string state_word(v1::CheckpointState state);               // "COMMITTED"
std::string time_text(const google::protobuf::Timestamp& time);  // "2026-11-24 16:05:09" in UTC; "-" when not set
std::string duration_text(absl::Duration duration);              // "42s", "7m05s", "3h02m"
std::string bytes_text(int64_t bytes);                           // "1.5 GiB"
std::string failure_text(const v1::Failure& failure);  // "USER(NON_FINITE): sentence [rank 3, workers/a, step 12]"
std::string printable(std::string_view line);          // control bytes but tab as \xNN: logs must not drive a terminal

}  // namespace qwen3::client
