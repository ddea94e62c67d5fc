// Trains a plan on ranks as threads, and compares it with the run of one process.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "tests/plans/plan.h"

namespace qwen3::testing {

inline constexpr int64_t kSteps = 5;

// Whole tensors, whatever the plan.
struct Trained {
  std::vector<double> losses, auxiliary_losses, norms;  // by step
  std::map<std::string, at::Tensor> first_moments;      // after step 1: the clipped gradient of step 1 * (1 - beta1)
  std::map<std::string, at::Tensor> state;    // after the last step: "model.", "exp_avg." and "exp_avg_sq." + name
  std::map<std::string, at::Tensor> buffers;  // after the last step
  bool replicas_agree = true;                 // bit by bit, those who keep the same piece
};

// Called on every rank before training: plants a fault (parallel/instruments.h).
using Fault = std::function<void(const parallel::DeviceMesh&)>;

// Trains plans of one mesh one after the other on the same ranks and process groups. `fault` may be empty.
std::vector<Trained> train_plans(const std::vector<Plan>& plans_of_one_mesh, const Fault& fault = {});

// Sentences, one for each thing that is further apart than `bound`; none: equal.
std::vector<std::string> differences(const Trained& trained, const Trained& single, const Bound& bound);

// The run of single_process(plan); kept, since many plans share it.
const Trained& single_run(const Plan& plan);

}  // namespace qwen3::testing
