// Export of a committed checkpoint as a Hugging Face folder: config.json, model.safetensors, tokenizer files, so that
// transformers loads it with no missing or unexpected key. Torch-free; memory is bounded by the largest tensor.
#pragma once
#include <string>

#include "absl/status/status.h"
#include "checkpoint/reader.h"
#include "spec/flavor.h"

namespace qwen3::checkpoint {

// "layers.3.attention.wq.weight" -> "model.layers.3.self_attn.q_proj.weight"; empty: no such parameter.
std::string hf_name(const std::string& parameter);

struct HfExport {
  std::string dtype = "float32";  // "float32", "bfloat16", "float16"; rounding is to nearest even
  std::string tokenizer;          // tokenizer.json or .tiktoken to put beside the weights; empty: none
};

// Writes into a temporary folder beside `folder` and renames it: `folder` appears whole or not at all.
absl::Status export_hf(const Reader& checkpoint, const spec::ModelShape& model, const HfExport& options,
                       const std::string& folder);

}  // namespace qwen3::checkpoint
