// The model's shape as JSON, as a manifest holds it.
#pragma once
#include <string>

#include "absl/status/statusor.h"
#include "spec/flavor.h"

namespace qwen3::checkpoint {

// Of a checkpoint that was made of a Hugging Face folder: what else is needed to write that folder again.
struct HfOrigin {
  std::string dtype;       // "float32", "bfloat16", "float16" of its weights; empty: several, or no such folder
  bool tied_head = false;  // a tied model whose folder has a lm_head.weight all the same
};

struct ModelRecord {
  spec::ModelShape shape;
  HfOrigin origin;
};

std::string model_json(const spec::ModelShape& shape, const HfOrigin& origin = {});
// Sizes that a text of an older version leaves out are its flavor's. INVALID_ARGUMENT names the key.
absl::StatusOr<ModelRecord> parse_model_json(const std::string& text);

// What makes weights another model though their shapes may agree: the first such difference, as "heads is 4, the run
// wants 8"; empty: none. A warm start may change how far positions reach (max_seq_len, rope_theta, YaRN), and norm_eps.
// A size that is 0 in `held` was left out by an older text.
std::string structural_difference(const spec::ModelShape& held, const spec::ModelShape& wanted);

}  // namespace qwen3::checkpoint
