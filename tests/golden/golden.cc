#include "tests/golden/golden.h"

#include <ATen/ops/empty.h>

#include <span>
#include <stdexcept>

namespace qwen3::golden {
namespace {

at::ScalarType scalar_type(checkpoint::Dtype dtype, const std::string& name) {
  switch (dtype) {
    case checkpoint::Dtype::kFloat32:
      return at::kFloat;
    case checkpoint::Dtype::kFloat64:
      return at::kDouble;
    case checkpoint::Dtype::kInt64:
      return at::kLong;
    default:
      throw std::runtime_error("golden tensor " + name + ": dtype " + checkpoint::dtype_name(dtype) +
                               ", F32, F64 or I64 wanted");
  }
}

}  // namespace

Golden::Golden(const std::string& file) : path_(std::string(QWEN3_SOURCE_DIR "/tests/golden/") + file) {
  auto header = checkpoint::read_safetensors_header(path_);
  if (!header.ok()) throw std::runtime_error(std::string(header.status().message()));
  header_ = *std::move(header);
}

at::Tensor Golden::tensor(const std::string& name) const {
  const auto found = header_.tensors.find(name);
  if (found == header_.tensors.end()) throw std::runtime_error(path_ + ": no tensor " + name);
  at::Tensor result = at::empty(found->second.shape, scalar_type(found->second.dtype, name));
  const std::span bytes(static_cast<std::byte*>(result.mutable_data_ptr()), result.nbytes());
  const absl::Status read = checkpoint::read_tensor_bytes(path_, header_, name, /*offset=*/0, bytes);
  if (!read.ok()) throw std::runtime_error(std::string(read.message()));
  return result;
}

const std::string& Golden::text(const std::string& key) const {
  const auto found = header_.metadata.find(key);
  if (found == header_.metadata.end()) throw std::runtime_error(path_ + ": no metadata " + key);
  return found->second;
}

double Golden::number(const std::string& key) const { return std::stod(text(key)); }

}  // namespace qwen3::golden
