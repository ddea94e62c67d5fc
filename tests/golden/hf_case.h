// One case of tests/golden/hf: a small Hugging Face folder, and what transformers and the float64 reference compute of
// it. How they were made: the README.md beside it.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "checkpoint/tensor_source.h"
#include "model/parameter.h"
#include "model/qwen3.h"
#include "tests/golden/golden.h"

namespace qwen3::golden {

struct HfCase {
  // The weights of `name`, the values of `values` (another folder only where two hold the same weights).
  // Throws std::runtime_error.
  explicit HfCase(const std::string& name, const std::string& values = "");

  std::unique_ptr<checkpoint::TensorSource> source;
  Golden transformers;  // logits, loss, gradient.NAME, step.*
  Golden float64;       // logits, loss, slope.NAME
  model::Microbatch batch;
};

// The whole tensor in float32, which holds every stored value exactly. Throws std::runtime_error.
at::Tensor read_tensor(const checkpoint::TensorSource& source, const std::string& name);

// Every parameter becomes the source's weight in `dtype` and a leaf, every use its own; buffers become zeros.
void load_weights(const checkpoint::TensorSource& source, model::ParameterSet& parameters, at::ScalarType dtype);

}  // namespace qwen3::golden
