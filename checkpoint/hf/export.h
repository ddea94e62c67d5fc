// Weights of any source as a Hugging Face folder, version 4: config.json, model.safetensors, tokenizer files, so that
// transformers loads it with no missing or unexpected key. Torch-free; memory is bounded by a few pieces (pump.h).
#pragma once
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/hf/names.h"
#include "checkpoint/pump.h"
#include "checkpoint/reader.h"
#include "checkpoint/tensor_source.h"
#include "spec/flavor.h"

namespace qwen3::checkpoint {

struct HfExport {
  // "float32", "bfloat16", "float16"; rounding is to nearest even. Empty: each tensor's own dtype.
  std::string dtype = "float32";
  std::string tokenizer = {};              // tokenizer.json or .tiktoken to put beside the weights; empty: none
  int64_t max_file_bytes = 5'000'000'000;  // above it the weights are cut into several files with an index
  bool tied_head = false;                  // a tied model gets a lm_head.weight all the same
  // Hugging Face folder of this model whose config.json and tokenizer are taken over; empty: none. `tokenizer` wins.
  std::string assets = {};
  Progress progress = {};
};

// Writes into a temporary folder beside `folder` and renames it: `folder` appears whole or not at all. An earlier
// export of this name is replaced; ALREADY_EXISTS: something else is there. Returns the digest of the weights in
// float32 (weights_digest, checkpoint/convert.h).
absl::StatusOr<std::string> export_hf(const TensorSource& source, const HfExport& options, const std::string& folder);
// Of a committed checkpoint, read as `model`.
absl::Status export_hf(const Reader& checkpoint, const spec::ModelShape& model, const HfExport& options,
                       const std::string& folder);

// "float32" -> kFloat32, and so on; INVALID_ARGUMENT for anything but float32, bfloat16 and float16.
absl::StatusOr<Dtype> weights_dtype(const std::string& name);
// "float32" for kFloat32, and so on.
std::string weights_dtype_name(Dtype dtype);

}  // namespace qwen3::checkpoint
