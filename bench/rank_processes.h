// Ranks as processes of one program on this machine: forked from it, they meet over Gloo on loopback.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "parallel/process_group.h"

namespace qwen3::bench {

class RankProcesses {
 public:
  // Forks world_size - 1 processes, which return from here with ranks of their own and otherwise do the same. Call
  // before anything has started a thread. Throws std::system_error.
  explicit RankProcesses(int64_t world_size);

  int64_t rank() const { return rank_; }
  // Null when there is one rank.
  parallel::Rendezvous* rendezvous() const { return store_.get(); }
  // On rank 0: waits until the others have ended; whether all did with exit status 0.
  bool wait() const;

 private:
  int64_t rank_ = 0;
  std::vector<pid_t> others_;
  std::shared_ptr<parallel::Rendezvous> store_;
};

}  // namespace qwen3::bench
