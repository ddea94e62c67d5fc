// A folder that appears under its name whole, or not at all.
#pragma once
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/file.h"

namespace qwen3::checkpoint {

class ResultFolder {
 public:
  // Makes an empty folder beside `target`, TARGET.tmp; what an earlier run that died left there is removed, and while
  // another one is at work there FAILED_PRECONDITION is returned. `marker`: the file that says that `target` is an
  // earlier result of this kind, which may be replaced; ALREADY_EXISTS: something else is there.
  static absl::StatusOr<ResultFolder> create(const std::string& target, const std::string& marker);
  ResultFolder(ResultFolder&&) noexcept = default;
  ResultFolder& operator=(ResultFolder&&) = delete;
  ~ResultFolder();  // removes what was not published

  const std::string& path() const { return temporary_; }
  const std::string& target() const { return target_; }
  // Puts the folder under its name. An earlier result changes places with it, so that there is one always, and is then
  // removed.
  absl::Status publish();

 private:
  ResultFolder(std::string target, std::string temporary, std::string marker, Descriptor lock);
  std::string target_;
  std::string temporary_;
  std::string marker_;
  Descriptor lock_;  // on the temporary folder; none: moved from, or published
};

}  // namespace qwen3::checkpoint
