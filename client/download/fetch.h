// Brings one file into a folder: resumed where an earlier try ended, tried again when the network fails, checked, and
// moved to its name only when it is whole and right.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/download/http.h"
#include "client/download/part_file.h"

namespace qwen3::client::download {

struct FetchHooks {
  // `bytes` of the file are there. Called often.
  std::function<void(int64_t bytes)> progress;
  std::function<void(const std::string& line)> note;  // something a person may want to know, as a lost connection
  std::function<void(absl::Duration)> sleep;          // returns early when the http's stop token is stopped
};

// Tries in a row that bring no byte before the error is given up to.
inline constexpr int kTries = 6;
// Before the next try, after `failures` (>= 1) in a row: half a second, doubled each time, at most 15 s.
absl::Duration backoff(int failures);

struct Fetched {
  int64_t size = 0;
  int64_t received = 0;                // without what an earlier try had left
  HashKind checked = HashKind::kNone;  // kNone: neither listing nor headers told a hash; only the size was checked
};

// REQUIRES: expected.name is a plain file name.
absl::StatusOr<Fetched> fetch(Http& http, const std::string& url, const RemoteFile& expected, const std::string& folder,
                              const FetchHooks& hooks);

}  // namespace qwen3::client::download
