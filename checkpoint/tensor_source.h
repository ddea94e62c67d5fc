// Weights to read, wherever they lie: a committed checkpoint of ours or a Hugging Face folder. The reader of weights
// (initialisation from a folder, evaluation, conversion) sees one kind of thing: our names, whole shapes, any part of
// any tensor in the dtype it asks for. Torch-free.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/safetensors.h"
#include "spec/flavor.h"
#include "spec/layout.h"

namespace qwen3::checkpoint {

struct SourceTensor {
  std::string name;               // ours, without "model.": "layers.3.attention.wq.weight"
  std::vector<int64_t> shape;     // global; never a scalar
  Dtype dtype = Dtype::kFloat32;  // at the source
  bool buffer = false;            // not a parameter (a router's expert_bias): only checkpoints of ours hold such
};

// Safe for concurrent use.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  // What the source itself says: config.json, or the manifest's model.
  virtual const spec::ModelShape& model() const = 0;
  // All parameters of model(), each once, in the order of the layers; then buffers. A tied head is not among them.
  virtual const std::vector<SourceTensor>& tensors() const = 0;
  // `box` of the tensor, row-major, converted to `as` (kFloat32, kBfloat16 or kFloat16, or the source's own dtype,
  // which copies the bits). `into` has exactly its bytes, and no bytes beside it are read. Narrowing rounds to nearest
  // even. NOT_FOUND: no such tensor; OUT_OF_RANGE: not inside it; DATA_LOSS: a file is not what it was or should be.
  virtual absl::Status read_box(std::string_view name, const spec::Box& box, std::span<std::byte> into,
                                Dtype as) const = 0;
  // Rows [row_begin, row_begin + rows) of the first dim.
  absl::Status read_rows(std::string_view name, int64_t row_begin, int64_t rows, std::span<std::byte> into,
                         Dtype as) const;

  // Null: no such tensor.
  const SourceTensor* find(std::string_view name) const;
};

// A committed checkpoint of ours. Files are verified when first used (checkpoint/reader.h).
absl::StatusOr<std::unique_ptr<TensorSource>> open_native_source(const std::string& folder);
// A Hugging Face folder: config.json and safetensors; headers, names, shapes and dtypes are checked here, and every
// problem is in the one error (checkpoint/hf/reader.h).
absl::StatusOr<std::unique_ptr<TensorSource>> open_hf_source(const std::string& folder);

}  // namespace qwen3::checkpoint
