// Ranks of a test as processes: what is counted for a process, as the bytes of its tensors, is then a rank's.
#pragma once
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "parallel/process_group.h"

namespace qwen3::testing {

// Starts this very test binary `ranks` times; each runs the test `name` ("Suite.Test") and nothing else, which finds
// its ThisRank. Returns what each reported, by rank. A rank that fails is a failure here.
std::vector<std::vector<int64_t>> run_rank_processes(int64_t ranks, const std::string& name,
                                                     const std::string& argument = "");

class ThisRank {
 public:
  // Null where run_rank_processes did not start this process. One thread for operations, and the counting allocator.
  static std::unique_ptr<ThisRank> find();
  ~ThisRank();

  int64_t rank() const { return rank_; }
  const std::string& argument() const { return argument_; }
  // The store under a prefix; each prefix is good for one mesh. Collective in that the first rank must be there.
  std::shared_ptr<parallel::Rendezvous> rendezvous(const std::string& prefix) const;
  void report(int64_t number);

 private:
  ThisRank(int64_t rank, int64_t ranks, std::string argument);

  int64_t rank_, ranks_;
  std::string argument_;
  FILE* out_;
  std::shared_ptr<parallel::Rendezvous> store_;  // on the first rank
  std::string address_;
};

}  // namespace qwen3::testing
