// Which checkpoints of a job to delete. Pure.
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "qwen3/v1/checkpoint.pb.h"

namespace qwen3::coordinator {

struct Keep {
  int64_t latest = 0;  // newest checkpoints; 0 keeps all
  int64_t best = 0;    // besides them, those of the lowest loss
};

// Of the committed steps (any order), those that `keep` does not name, oldest first. The newest and those in use are
// never named. `losses` are of some steps; a step without one is never among the best, and of two with the same loss
// the newer is better.
std::vector<int64_t> to_prune(std::vector<int64_t> committed, const Keep& keep, const std::map<int64_t, double>& losses,
                              const std::set<int64_t>& in_use);

// Loss of each checkpoint (by step) that was evaluated on the data of the newest evaluation: losses on other data say
// nothing about which is better. The newest such evaluation counts; one that is not a number does not.
std::map<int64_t, double> comparable_losses(const std::map<int64_t, v1::Checkpoint>& checkpoints);

}  // namespace qwen3::coordinator
