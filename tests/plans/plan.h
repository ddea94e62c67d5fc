// A parallel plan as a value, and every legal one of a tiny run. Whatever the plan, the run must be that of one
// process.
#pragma once
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "spec/run_spec.h"

namespace qwen3::testing {

struct Plan {
  // kFewExperts: fewer than shards, of 20 hidden features; not among every_plan().
  enum class Model { kDense, kTied, kMoe, kFewExperts };
  enum class Recompute { kNone, kSelective, kFull };

  Model model = Model::kDense;
  int64_t replicate = 1, shard = 1, tp = 1, ep = 1;
  int64_t microbatches = 8;  // of a step over all ranks; what a rank does of them it accumulates
  bool balanced = false;     // experts in turn instead of the router's choice, which rounding may change
  Recompute recompute = Recompute::kNone;
  bool reshard = true;            // gathered weights are freed after forward
  bool reduce_once = false;       // gradients are exchanged once a step, not after every microbatch
  bool sequence_parallel = true;  // under tensor parallelism
  bool async_tp = false;          // its communication overlaps with its GEMMs
  bool loss_parallel = true;      // and the loss is taken of logits that stay cut
  spec::Precision precision = spec::Precision::kFloat32;
  bool ordered = true;

  int64_t world() const { return replicate * shard * tp; }
  bool operator==(const Plan&) const = default;
};

std::string name(const Plan& plan);  // "moe_replicate2_shard2_m8_float32_ordered"; what is 1, none or usual is left out
void PrintTo(const Plan& plan, std::ostream* out);

// The run, by the rules of a job.
spec::RunSpec run_of(const Plan& plan);

// The same training by one process: what the plan is compared with.
Plan single_process(const Plan& plan);

// How far a plan may be from the run of one process, in relative L2 norm; all 0: not by a bit.
struct Bound {
  double loss = 0, grad_norm = 0;
  double gradient = 0;   // of each tensor, at step 1
  double parameter = 0;  // of each tensor, after the last step
  double buffer = 0;     // of each bias and counts of experts, after the last step; infinite: they may be anything
};
Bound bound_of(const Plan& plan);

// All plans that are legal (spec/rules.h) on up to 8 ranks and have at most two unusual choices.
std::vector<Plan> every_plan();
// Of `reshard`, `reduce_once`, `sequence_parallel`, `async_tp` and `loss_parallel`, how many are not the default.
int unusual_choices(const Plan& plan);

// Some of `plans`, at least `least` if there are as many: each pair of choices that meet in any of them meets in one of
// the chosen. A function of the plans alone.
std::vector<Plan> covering(const std::vector<Plan>& plans, size_t least);

}  // namespace qwen3::testing
