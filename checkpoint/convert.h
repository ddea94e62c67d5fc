// Weights from one format to another, and what is true of a folder of weights. Streaming: memory is bounded by a few
// pieces of 4 MiB (or of one row, an expert's matrix), whatever the model's size. Torch-free.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/pump.h"

namespace qwen3::checkpoint {

enum class Format { kHf, kNative };

// A folder of weights: Hugging Face's, or a committed checkpoint of ours.
struct Place {
  Format format = Format::kHf;
  std::string folder;
};

struct ConvertOptions {
  // Of the weights written: "float32", "bfloat16" or "float16". Empty: of a Hugging Face folder each tensor's own, of a
  // checkpoint that was made of such a folder that folder's, else float32. Checkpoints are always float32.
  std::string dtype = {};
  int64_t max_file_bytes = 5'000'000'000;
  Progress progress = {};
};

struct ConvertReport {
  int64_t tensors = 0;         // in the source: of a Hugging Face folder as it stores them, of a checkpoint parameters
  int64_t bytes = 0;           // of weights, in the source's dtypes
  std::string weights_digest;  // of the source; the same for the same weights in any format
  // Of verify: one sentence each that names the tensor or file; empty: all is well.
  std::vector<std::string> problems;
};

// Writes `to.folder` whole or not at all (result_folder.h). A checkpoint that is written is committed, of step 0, has
// weights and no moments, config.json's model, and the source's tokenizer and config in its subfolder "hf".
absl::StatusOr<ConvertReport> convert(const Place& from, const Place& to, const ConvertOptions& options = {});

// Reads everything: each file against its digest (checkpoints), headers, names, shapes and dtypes, each tensor's digest
// (checkpoints), values that are not finite, and that float32 and back to its dtype gives each tensor's bits again, as
// a conversion there and back would. A folder that cannot be opened as weights is a problem too, not an error; errors
// are NOT_FOUND (no such folder) and CANCELLED.
absl::StatusOr<ConvertReport> verify(const Place& place, const Progress& progress = {});

}  // namespace qwen3::checkpoint
