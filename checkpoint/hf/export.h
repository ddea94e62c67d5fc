// Export of a committed checkpoint as a Hugging Face folder: config.json, model.safetensors, tokenizer files, so that
// transformers loads it with no missing or unexpected key. Torch-free; memory is bounded by a few megabytes or one row.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "checkpoint/hf/names.h"
#include "checkpoint/reader.h"
#include "spec/flavor.h"

namespace qwen3::checkpoint {

struct HfExport {
  std::string dtype = "float32";           // "float32", "bfloat16", "float16"; rounding is to nearest even
  std::string tokenizer;                   // tokenizer.json or .tiktoken to put beside the weights; empty: none
  int64_t max_file_bytes = 5'000'000'000;  // above it the weights are cut into several files with an index
};

// Writes into a temporary folder beside `folder` and renames it: `folder` appears whole or not at all. An earlier
// export of this name is replaced; ALREADY_EXISTS: something else is there. UNIMPLEMENTED: a MoE model.
absl::Status export_hf(const Reader& checkpoint, const spec::ModelShape& model, const HfExport& options,
                       const std::string& folder);

}  // namespace qwen3::checkpoint
