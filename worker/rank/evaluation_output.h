// The tensors an evaluation writes, by all its ranks together. Every call is a collective over the mesh, but add().
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/shared_safetensors.h"
#include "parallel/fsdp/sharded_model.h"
#include "parallel/mesh.h"
#include "spec/flavor.h"

namespace qwen3::rank {

// A safetensors file that every rank writes its pieces of. Throws std::runtime_error that names the file.
class SharedOutput {
 public:
  // `tag` tells attempts apart.
  SharedOutput(const std::string& path, const std::string& tag, std::vector<checkpoint::TensorLayout> tensors,
               const parallel::DeviceMesh& mesh);
  // `values` (contiguous) from element `first` of tensor `index` on. Not a collective.
  void add(size_t index, int64_t first, const at::Tensor& values) const;
  // Waits for all ranks; then the file has its name.
  void commit();

 private:
  const parallel::DeviceMesh& mesh_;
  std::optional<checkpoint::SharedSafetensors> file_;
};

// logits.safetensors: `logits` [sequences, length, vocab], filled microbatch by microbatch.
class LogitsFile {
 public:
  LogitsFile(const std::string& path, const std::string& tag, std::vector<int64_t> shape, bool wide,
             const parallel::DeviceMesh& mesh);
  // logits [B, S, V] of the sequences from `first` on; those past the end are left out. Not a collective.
  void add(int64_t first, const at::Tensor& logits) const;
  void commit() { output_.commit(); }

 private:
  std::vector<int64_t> shape_;
  at::ScalarType dtype_;
  SharedOutput output_;
};

// gradients.safetensors: every tensor's `grad` of the model, under Hugging Face's names and in its cut.
void write_gradients(const std::string& path, const std::string& tag, const spec::ModelShape& shape, bool wide,
                     const parallel::ShardedModel& model, const parallel::DeviceMesh& mesh);

}  // namespace qwen3::rank
