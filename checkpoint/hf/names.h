// Which tensor of ours is which of Hugging Face's; the table of torchtitan's Qwen3 state dict adapter. Nothing is
// transposed or permuted; an expert's matrix of theirs (version 4) is a row of our stacked tensor.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spec/flavor.h"

namespace qwen3::checkpoint {

// "layers.3.attention.wq.weight" -> "model.layers.3.self_attn.q_proj.weight"; empty: no such parameter, or one that
// Hugging Face cuts into its experts.
std::string hf_name(const std::string& parameter);

// Whether `name` is state that our checkpoints hold beside the parameters: the router's bias and counts.
bool is_buffer(std::string_view name);

// A tensor of a Hugging Face folder (version 4), and the rows of ours that it holds.
struct HfTensor {
  std::string name;            // Hugging Face's
  std::string parameter;       // ours
  std::vector<int64_t> shape;  // in the folder; of an expert without the first dim of ours
  int64_t row_begin = 0;       // rows of ours
  int64_t rows = 0;
};

// What an exported model consists of, in the order of the layers. With `tied_head` a tied model has a lm_head.weight,
// a second copy of its embedding.
std::vector<HfTensor> hf_tensors(const spec::ModelShape& model, bool tied_head = false);

// What a name in a Hugging Face folder stands for.
struct HfTarget {
  enum Kind {
    kWhole,     // all rows of one parameter
    kExpert,    // row `expert` of one parameter
    kGateUp,    // version 5: [E, 2F, D], each expert's rows of `parameter` (w1), then those of `second` (w3)
    kTiedHead,  // a second copy of the embedding
    kIgnored    // rotary frequencies of old exports: computed, not stored
  };
  Kind kind = kIgnored;
  size_t parameter = 0;  // index in spec::parameters(model), whose order the table here follows
  size_t second = 0;
  int64_t expert = 0;
  std::vector<int64_t> shape;  // it must have; of kIgnored any
};

// Nothing: the model has no tensor of this name.
std::optional<HfTarget> find_hf_name(const spec::ModelShape& model, std::string_view name);

}  // namespace qwen3::checkpoint
