// AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) over the float32 master shards, by ATen's fused kernel.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "parallel/fsdp/sharded_model.h"
#include "spec/run_spec.h"

namespace qwen3::rank {

class AdamW {
 public:
  // Groups the tensors by whether their name matches a pattern of spec.no_decay. `model` must outlive this.
  AdamW(const spec::OptimizerSpec& spec, parallel::ShardedModel& model);

  // One update from every tensor's `grad`, with bias correction for `step` (from 1); lr is the schedule's value.
  // The gradients are multiplied by `grad_scale` first (clipping). Frees them.
  void step(int64_t step, double lr, double grad_scale);

 private:
  struct Group {
    double weight_decay;
    std::vector<parallel::ShardedTensor*> tensors;
  };
  spec::OptimizerSpec spec_;
  std::vector<Group> groups_;
};

// Whether `name` matches `pattern`, in which '*' is any run of characters.
bool matches(std::string_view pattern, std::string_view name);

}  // namespace qwen3::rank
