// Tiny runs that write and restore checkpoints, with their ranks as threads.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "spec/run_spec.h"
#include "tests/temporary_folder.h"

namespace qwen3::testing {

class CheckpointedRuns {
 public:
  // Runs steps (from, to] of `run`, restored from the folder `restore` unless empty; returns the folder of the
  // committed checkpoint of step `to`.
  std::string run_steps(const spec::RunSpec& run, int64_t from, int64_t to, const std::string& restore);
  // Of the steps that the newest run_steps ran.
  const std::vector<double>& losses() const { return losses_; }
  // The state digest of a committed checkpoint.
  static std::string digest(const std::string& folder);
  const std::string& folder() const { return folder_.path(); }

 private:
  const tests::TemporaryFolder folder_{"restore"};
  int32_t attempt_ = 0;
  std::vector<double> losses_;
};

}  // namespace qwen3::testing
