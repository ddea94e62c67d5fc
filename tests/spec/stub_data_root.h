// A folder that looks like what set-up fetched, so that paths resolve: empty datasets and tokenizers, removed at the
// end of the scope.
#pragma once
#include <string>

#include "spec/config/job_spec.h"
#include "tests/temporary_folder.h"

namespace qwen3::spec::config {

class StubDataRoot {
 public:
  StubDataRoot();

  const std::string& path() const { return folder_.path(); }
  Environment environment() const { return {.fast_bfloat16 = true, .data_root = path()}; }
  // Creates an empty file (and its folder) below the root; returns its path.
  std::string file(const std::string& name) const;

 private:
  const qwen3::tests::TemporaryFolder folder_{"data-root"};
};

}  // namespace qwen3::spec::config
