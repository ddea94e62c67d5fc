// Digest of all weights of a source in float32: equal for the same weights in any format, cut into any files.
#pragma once
#include <map>
#include <string>

#include "checkpoint/digest.h"
#include "checkpoint/tensor_source.h"

namespace qwen3::checkpoint {

class WeightsDigest {
 public:
  explicit WeightsDigest(const TensorSource& source) {
    for (const SourceTensor& tensor : source.tensors()) {
      if (!tensor.buffer) tensors_[tensor.name] = {Dtype::kFloat32, tensor.shape, {}};
    }
  }
  // Digest of some rows in float32 (digest_slice). Each row of each parameter once; buffers are left out.
  void add(const std::string& name, const Sum128& digest) {
    if (const auto found = tensors_.find(name); found != tensors_.end()) found->second.sum += digest;
  }
  Sum128 of(const std::string& name) const { return tensors_.at(name).sum; }
  // The state_digest of our names, float32, global shapes and sums.
  std::string hex() const { return state_digest(tensors_); }

 private:
  std::map<std::string, TensorDigest> tensors_;
};

}  // namespace qwen3::checkpoint
