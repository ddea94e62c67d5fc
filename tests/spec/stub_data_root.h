// A folder that looks like what set-up fetched, so that paths resolve: empty datasets and tokenizers, removed at the
// end of the scope.
#pragma once
#include <string>

#include "spec/config/job_spec.h"

namespace qwen3::spec::config {

class StubDataRoot {
 public:
  StubDataRoot();
  ~StubDataRoot();
  StubDataRoot(const StubDataRoot&) = delete;
  StubDataRoot& operator=(const StubDataRoot&) = delete;

  const std::string& path() const { return path_; }
  Environment environment() const { return {.fast_bfloat16 = true, .data_root = path_}; }
  // Creates an empty file (and its folder) below the root; returns its path.
  std::string file(const std::string& name) const;

 private:
  std::string path_;
};

}  // namespace qwen3::spec::config
