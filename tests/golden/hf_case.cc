#include "tests/golden/hf_case.h"

#include <ATen/ATen.h>

#include <cstddef>
#include <span>
#include <stdexcept>

namespace qwen3::golden {
namespace {

std::string in_folder(const std::string& name) { return "hf/" + name; }

std::unique_ptr<checkpoint::TensorSource> open_model(const std::string& name) {
  auto source = checkpoint::open_hf_source(QWEN3_SOURCE_DIR "/tests/golden/" + in_folder(name) + "/model");
  if (!source.ok()) throw std::runtime_error(std::string(source.status().message()));
  return *std::move(source);
}

}  // namespace

HfCase::HfCase(const std::string& name, const std::string& values)
    : source(open_model(name)),
      transformers(in_folder(values.empty() ? name : values) + "/transformers.safetensors"),
      float64(in_folder(values.empty() ? name : values) + "/float64.safetensors"),
      batch{transformers.tensor("ids"), transformers.tensor("labels"), transformers.tensor("positions")} {}

at::Tensor read_tensor(const checkpoint::TensorSource& source, const std::string& name) {
  const checkpoint::SourceTensor* tensor = source.find(name);
  if (tensor == nullptr) throw std::runtime_error("the folder has no tensor " + name);
  at::Tensor values = at::empty(tensor->shape, at::kFloat);
  const absl::Status read =
      source.read_rows(name, 0, tensor->shape[0], {static_cast<std::byte*>(values.mutable_data_ptr()), values.nbytes()},
                       checkpoint::Dtype::kFloat32);
  if (!read.ok()) throw std::runtime_error(std::string(read.message()));
  return values;
}

void load_weights(const checkpoint::TensorSource& source, model::ParameterSet& parameters, at::ScalarType dtype) {
  parameters.zero_buffers(dtype);
  for (const auto& unit : parameters.units()) {
    for (model::Parameter* p : unit.parameters) {
      p->weight = read_tensor(source, p->tensor).to(dtype);
      if (p->weight.sizes() != at::IntArrayRef(p->shape)) throw std::runtime_error(p->tensor + " has another shape");
      p->weight.requires_grad_();
    }
  }
}

}  // namespace qwen3::golden
