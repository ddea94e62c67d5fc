// A tiny model as a Hugging Face folder, and the same weights on one device.
#pragma once
#include <memory>
#include <string>

#include "model/qwen3.h"
#include "spec/flavor.h"

namespace qwen3::testing {

spec::ModelShape tiny_shape(bool tied);
spec::ModelShape tiny_moe_shape();

// Weights initialised from a seed; the model is the plain one, without a mesh.
struct PlainModel {
  PlainModel(const spec::ModelShape& shape, at::ScalarType dtype);
  model::ParameterSet parameters;
  model::Qwen3 model;
};

// config.json and model.safetensors of PlainModel(shape, float32).
void write_hf_folder(const std::string& folder, const spec::ModelShape& shape);

// A tokens file of `sequences` x `length` ids, two documents in some of the sequences, some labels ignored.
void write_tokens(const std::string& path, int64_t sequences, int64_t length, int64_t vocab);

// A tensor of a safetensors file, float32, float64 or int64.
at::Tensor read_tensor(const std::string& path, const std::string& name);
std::string file_bytes(const std::string& path);

}  // namespace qwen3::testing
