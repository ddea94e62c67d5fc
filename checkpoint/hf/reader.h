// Weights in a Hugging Face folder: config.json and safetensors, one file or several with an index, version 4 (a matrix
// for each expert) or 5 (fused experts), float32, bfloat16, float16, also mixed. No pickle is ever read.
#pragma once
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "checkpoint/file.h"
#include "checkpoint/tensor_source.h"

namespace qwen3::checkpoint {

class HfReader : public TensorSource {
 public:
  // Reads config.json and all headers, no weights. Every tensor that is missing, unexpected, there twice, of another
  // shape or dtype is in the one error; the rotary frequencies of old exports are ignored.
  static absl::StatusOr<std::unique_ptr<HfReader>> open(const std::string& folder);

  const spec::ModelShape& model() const override { return model_; }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  // Of a tied model whose folder has a lm_head.weight the embedding's rows are compared with it: DATA_LOSS if they
  // differ, since transformers would then use another head than the weights say.
  absl::Status read_box(std::string_view name, const spec::Box& box, std::span<std::byte> into,
                        Dtype as) const override;

  const std::string& folder() const { return folder_; }
  const std::string& config_text() const { return config_text_; }
  bool tied_head() const { return tied_head_.file >= 0; }  // a tied model with a lm_head.weight
  int64_t files() const { return static_cast<int64_t>(files_.size()); }
  // Tensors in the folder's files.
  int64_t stored_tensors() const { return stored_tensors_; }

 private:
  // Where rows of one of our tensors lie: row r is at `offset` + (r - row_begin) * `stride` of the file.
  struct Part {
    int32_t file = -1;  // in files_; -1: not found
    Dtype dtype = Dtype::kFloat32;
    int64_t offset = 0;
    int64_t stride = 0;
  };
  struct Tensor {
    std::vector<Part> parts;    // one of all rows, or one for each row (an expert)
    std::vector<bool> claimed;  // parts whose name was seen, whether or not it was usable
  };
  class Builder;

  HfReader() = default;
  absl::Status compare_tied_head(const Part& embedding, int64_t row_begin, int64_t rows, int64_t row_items) const;
  absl::Status read_part(const Part& part, int64_t row, int64_t rows, int64_t row_items, std::span<std::byte> into,
                         Dtype as) const;

  std::string folder_;
  std::string config_text_;
  spec::ModelShape model_;
  std::vector<InputFile> files_;
  std::vector<SourceTensor> tensors_;
  std::vector<Tensor> places_;  // of tensors_
  std::unordered_map<std::string_view, size_t> by_name_;
  Part tied_head_;
  int64_t stored_tensors_ = 0;
};

}  // namespace qwen3::checkpoint
