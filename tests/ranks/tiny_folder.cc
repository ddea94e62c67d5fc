#include "tests/ranks/tiny_folder.h"

#include <ATen/ATen.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <span>
#include <stdexcept>
#include <vector>

#include "checkpoint/hf/config.h"
#include "checkpoint/hf/names.h"
#include "checkpoint/safetensors.h"
#include "tests/ranks/tiny_run.h"

namespace qwen3::testing {
namespace {

constexpr uint64_t kSeed = 11;

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

void write(const std::string& path, const std::vector<checkpoint::TensorBytes>& tensors) {
  const auto written = checkpoint::write_safetensors(path, tensors, {{"format", "pt"}});
  if (!written.ok()) throw std::runtime_error(std::string(written.status().message()));
}

}  // namespace

spec::ModelShape tiny_shape(bool tied) {
  return {.flavor = "tiny",
          .dim = 32,
          .layers = 2,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 16,
          .ffn_hidden = 48,
          .vocab = 101,
          .max_seq_len = 64,
          .tied = tied};
}

spec::ModelShape tiny_moe_shape() {
  spec::ModelShape shape = tiny_shape(/*tied=*/false);
  shape.ffn_hidden = 0;
  shape.experts = 6;
  shape.experts_per_token = 2;
  shape.expert_hidden = 24;
  return shape;
}

PlainModel::PlainModel(const spec::ModelShape& shape, at::ScalarType dtype) : model(shape, parameters) {
  model::materialise(parameters, kSeed, dtype);
}

void write_hf_folder(const std::string& folder, const spec::ModelShape& shape) {
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/config.json") << checkpoint::config_json(shape, {}, "float32");
  PlainModel plain(shape, at::kFloat);
  std::map<std::string, at::Tensor> weights;
  for (const auto& unit : plain.parameters.units()) {
    for (const model::Parameter* parameter : unit.parameters) weights[parameter->tensor] = parameter->weight.detach();
  }
  std::vector<at::Tensor> kept;
  std::vector<checkpoint::TensorBytes> tensors;
  for (const checkpoint::HfTensor& tensor : checkpoint::hf_tensors(shape)) {
    kept.push_back(weights.at(tensor.parameter).narrow(0, tensor.row_begin, tensor.rows).contiguous());
    tensors.push_back({tensor.name, checkpoint::Dtype::kFloat32, tensor.shape, bytes_of(kept.back())});
  }
  write(folder + "/model.safetensors", tensors);
}

void write_tokens(const std::string& path, int64_t sequences, int64_t length, int64_t vocab) {
  const SyntheticText text(sequences, length, vocab);
  std::vector<int64_t> ids, labels, positions;
  for (int64_t i = 0; i < sequences; ++i) {
    const data::Sample sample = text.at(i);
    ids.insert(ids.end(), sample.ids.begin(), sample.ids.end());
    labels.insert(labels.end(), sample.labels.begin(), sample.labels.end());
    positions.insert(positions.end(), sample.positions.begin(), sample.positions.end());
  }
  const std::vector<int64_t> shape{sequences, length};
  const auto bytes = [](const std::vector<int64_t>& values) { return std::as_bytes(std::span(values)); };
  write(path, {{"ids", checkpoint::Dtype::kInt64, shape, bytes(ids)},
               {"labels", checkpoint::Dtype::kInt64, shape, bytes(labels)},
               {"positions", checkpoint::Dtype::kInt64, shape, bytes(positions)}});
}

at::Tensor read_tensor(const std::string& path, const std::string& name) {
  const auto header = checkpoint::read_safetensors_header(path);
  if (!header.ok()) throw std::runtime_error(std::string(header.status().message()));
  const checkpoint::TensorEntry& entry = header->tensors.at(name);
  const auto dtype = entry.dtype == checkpoint::Dtype::kFloat64   ? at::kDouble
                     : entry.dtype == checkpoint::Dtype::kFloat32 ? at::kFloat
                                                                  : at::kLong;
  at::Tensor tensor = at::empty(entry.shape, dtype);
  const absl::Status status = checkpoint::read_tensor_bytes(
      path, *header, name, 0, {static_cast<std::byte*>(tensor.mutable_data_ptr()), tensor.nbytes()});
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  return tensor;
}

std::string file_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace qwen3::testing
