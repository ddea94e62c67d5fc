#include "checkpoint/tensor_source.h"

#include <algorithm>

namespace qwen3::checkpoint {

const SourceTensor* TensorSource::find(std::string_view name) const {
  const auto& list = tensors();
  const auto found = std::find_if(list.begin(), list.end(), [&](const SourceTensor& t) { return t.name == name; });
  return found == list.end() ? nullptr : &*found;
}

}  // namespace qwen3::checkpoint
