// Every rule a run must satisfy, checked at once. Pure.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "spec/run_spec.h"

namespace qwen3::spec {

// A broken rule: the field (as in the TOML, "training.global_batch_size") and one sentence that names the thing, what
// it got and what it wants.
struct Violation {
  std::string field;
  std::string message;
};

// Rules on the numbers of a run: divisibility, degrees, ranges, ordered mode's conditions (float32, powers of two),
// seq_len within the model's, what is not supported yet. Empty: the run may be submitted.
std::vector<Violation> check_rules(const RunSpec& run);

}  // namespace qwen3::spec
