#include "model/parameter.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <map>
#include <utility>

#include "model/init.h"
#include "model/precision.h"

namespace qwen3::model {

Parameter& ParameterSet::add(std::string name, std::vector<int64_t> shape, Init init, double init_std,
                             std::string tensor) {
  TORCH_CHECK_VALUE(!units_.empty(), "parameter ", name, " added before any unit was begun");
  Parameter parameter{.name = name, .tensor = tensor.empty() ? name : std::move(tensor)};
  parameter.shape = std::move(shape);
  parameter.init = init;
  parameter.init_std = init_std;
  parameters_.push_back(std::move(parameter));
  units_.back().parameters.push_back(&parameters_.back());
  return parameters_.back();
}

void ParameterSet::begin_unit(std::string name) { units_.push_back({.name = std::move(name)}); }

Buffer& ParameterSet::add_buffer(std::string name, std::vector<int64_t> shape, Buffer::Kind kind) {
  buffers_.push_back({.name = std::move(name), .shape = std::move(shape), .kind = kind});
  return buffers_.back();
}

void ParameterSet::zero_buffers(at::ScalarType real, at::Device device) {
  for (Buffer& buffer : buffers_) {
    const at::ScalarType dtype = buffer.kind == Buffer::Kind::kCount ? at::kLong : real;
    buffer.value = at::zeros(buffer.shape, at::TensorOptions().dtype(dtype).device(device));
  }
}

void materialise(ParameterSet& parameters, uint64_t seed, at::ScalarType dtype) {
  parameters.zero_buffers(accumulate_dtype(dtype));
  std::map<std::string, at::Tensor> whole;  // by tensor name
  for (ParameterSet::Unit& unit : parameters.units()) {
    for (Parameter* parameter : unit.parameters) {
      at::Tensor& values = whole[parameter->tensor];
      if (!values.defined()) {
        const auto exact = dtype == at::kDouble ? at::kDouble : at::kFloat;
        values = at::empty(parameter->shape, exact);
        fill_initial(values, *parameter, seed, /*first=*/0);
        values = values.to(dtype);
      }
      parameter->weight = values.detach().requires_grad_();  // each use is a leaf of its own
    }
  }
}

}  // namespace qwen3::model
