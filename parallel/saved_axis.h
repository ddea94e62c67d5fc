// A mesh axis among what an autograd Function keeps for its backward.
#pragma once
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

#include "parallel/mesh.h"

namespace qwen3::parallel {

struct SavedAxis : torch::CustomClassHolder {
  explicit SavedAxis(MeshAxis axis) : axis(std::move(axis)) {}
  MeshAxis axis;
};

inline void save_axis(torch::autograd::AutogradContext* context, const MeshAxis& axis) {
  context->saved_data["axis"] = c10::IValue::make_capsule(c10::make_intrusive<SavedAxis>(axis));
}

inline MeshAxis saved_axis(torch::autograd::AutogradContext* context) {
  return static_cast<const SavedAxis&>(*context->saved_data["axis"].toCapsule()).axis;
}

}  // namespace qwen3::parallel
