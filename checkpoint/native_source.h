// Weights in a committed checkpoint of ours.
#pragma once
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "checkpoint/model_json.h"
#include "checkpoint/reader.h"
#include "checkpoint/tensor_source.h"

namespace qwen3::checkpoint {

class NativeSource : public TensorSource {
 public:
  // The model is what the manifest says. INVALID_ARGUMENT lists all tensors that are missing, of another shape or of
  // none of the model's.
  static absl::StatusOr<std::unique_ptr<NativeSource>> open(const std::string& folder);
  // Of a checkpoint that is open already, read as `model`. `reader` must outlive the result.
  static absl::StatusOr<std::unique_ptr<NativeSource>> over(const Reader& reader, const spec::ModelShape& model);

  const spec::ModelShape& model() const override { return model_; }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  absl::Status read_box(std::string_view name, const spec::Box& box, std::span<std::byte> into,
                        Dtype as) const override;
  const Manifest& manifest() const { return reader_->manifest(); }
  const HfOrigin& origin() const { return origin_; }

 private:
  NativeSource() = default;
  absl::Status match();

  std::unique_ptr<const Reader> own_;  // null: the caller's
  const Reader* reader_ = nullptr;
  spec::ModelShape model_;
  HfOrigin origin_;
  std::vector<SourceTensor> tensors_;
  std::unordered_map<std::string, const SourceTensor*> by_name_;
};

}  // namespace qwen3::checkpoint
