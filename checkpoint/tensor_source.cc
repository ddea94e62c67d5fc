#include "checkpoint/tensor_source.h"

#include <algorithm>

namespace qwen3::checkpoint {

const SourceTensor* TensorSource::find(std::string_view name) const {
  const auto& list = tensors();
  const auto found = std::find_if(list.begin(), list.end(), [&](const SourceTensor& t) { return t.name == name; });
  return found == list.end() ? nullptr : &*found;
}

absl::Status TensorSource::read_rows(std::string_view name, int64_t row_begin, int64_t rows, std::span<std::byte> into,
                                     Dtype as) const {
  const SourceTensor* tensor = find(name);
  if (tensor == nullptr) return read_box(name, {}, into, as);  // says so
  spec::Box box = spec::whole_box(tensor->shape);
  box.begin[0] = row_begin;
  box.shape[0] = rows;
  return read_box(name, box, into, as);
}

}  // namespace qwen3::checkpoint
