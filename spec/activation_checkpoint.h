// Activation checkpointing (Chen et al. 2016, arXiv:1604.06174) as arithmetic: which of a block's named results stay
// for backward, how many bytes that is, and how many FLOPs it takes to have the others again. The names are those of
// the block's segments (model/block.h); selecting by name follows Korthikanti et al. 2022 (arXiv:2205.05198).
#pragma once
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spec/flavor.h"
#include "spec/run_spec.h"

namespace qwen3::spec {

// Results of one block that are kept. The segment that makes a kept result runs once, and all that its backward reads
// stays. Neighbours that are not kept form a group: it keeps its inputs alone and runs again in backward.
using KeptResults = std::set<std::string, std::less<>>;

// The results of a block, in order: qkv, attention, attention_residual, gate_up, mlp_residual; of a mixture of experts
// router, dispatch, expert_gate_up and expert_residual take the place of the last two.
std::span<const std::string_view> block_results(const ModelShape& model);

// What torchtitan's selective_ac_option = "op" stands for here: the attention's and the MLP's widest products, and the
// experts'; a block has two of the three.
std::span<const std::string_view> op_results();

// Of each layer, as run.activation_checkpoint says. REQUIRES: check_rules(run) is empty.
std::vector<KeptResults> kept_results(const RunSpec& run);

// What one block makes and does for one microbatch on one rank: under tensor parallelism with its heads and hidden
// features of all tokens and, between the cut layers, its piece of the sequence; under expert parallelism with as many
// rows as its own tokens' choices, which is what it receives when the load is even.
class BlockCost {
 public:
  explicit BlockCost(const RunSpec& run);

  // Bytes that stay from the block's forward to its backward. A tensor that several segments read counts once, and the
  // block's input, which always stays, counts here, not its output. The mask of documents is all blocks' and not in it.
  int64_t kept_bytes(const KeptResults& kept) const;
  int64_t all_bytes() const;  // kept_bytes of all results: no recomputation

  // The most bytes of the block while the backward of each of its segments is under way, by segment: what still stays,
  // one group run again, and the gradients of activations (those of weights not).
  std::vector<int64_t> backward_bytes(const KeptResults& kept) const;

  // FLOPs of running again what is not kept: a product of [m, k] and [k, n] is 2 m k n, attention half its square, and
  // anything else one for each element that it reads or writes.
  double recomputed_flops(const KeptResults& kept) const;

  // The results whose kept_bytes are at most `budget` (0..1) of all_bytes with the fewest recomputed FLOPs; of equal
  // ones that with the fewest bytes. Exact: every subset is tried. Nothing is kept if even that is more.
  KeptResults within(double budget) const;

 private:
  // Tensors are numbered; a set of them is a mask.
  using Tensors = uint64_t;
  struct Segment {
    std::string_view name;
    double flops;
    Tensors takes;      // its inputs, those that pass through included: what a group that begins here keeps
    Tensors saves;      // what its own backward reads
    int64_t gradients;  // bytes of the activations' gradients that live at once in its backward, beyond what it frees
  };
  int64_t bytes_of(Tensors tensors) const;
  Tensors kept_tensors(const KeptResults& kept) const;

  std::vector<int64_t> tensor_bytes_;
  std::vector<Segment> segments_;
  Tensors always_ = 0;  // stay whatever is kept: the router's choice
};

}  // namespace qwen3::spec
