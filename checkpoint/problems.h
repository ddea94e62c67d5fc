// What is wrong with a folder, all of it in one message; a hostile folder does not choose how long the message is.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace qwen3::checkpoint {

class Problems {
 public:
  template <typename... Parts>
  void add(Parts&&... parts) {
    if (sentences_.size() < kKept) sentences_.push_back(absl::StrCat(std::forward<Parts>(parts)...));
    ++count_;
  }
  bool empty() const { return count_ == 0; }
  // One sentence each; beyond the first ones a last one says how many more there are.
  std::vector<std::string> sentences() const {
    std::vector<std::string> all = sentences_;
    if (count_ > all.size()) all.push_back(absl::StrCat("and ", count_ - all.size(), " more"));
    return all;
  }
  // INVALID_ARGUMENT "WHERE: N problems:" and a line each, or the one sentence.
  absl::Status status(const std::string& where) const {
    if (empty()) return absl::OkStatus();
    if (count_ == 1) return absl::InvalidArgumentError(absl::StrCat(where, ": ", sentences_[0]));
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": ", count_, " problems:\n  ", absl::StrJoin(sentences(), "\n  ")));
  }

 private:
  static constexpr size_t kKept = 200;
  std::vector<std::string> sentences_;
  size_t count_ = 0;
};

}  // namespace qwen3::checkpoint
