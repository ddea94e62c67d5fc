// A Hugging Face folder as transformers writes it, in memory first, so that a test can break it before it is written.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "spec/flavor.h"

namespace qwen3::checkpoint::testing {

spec::ModelShape tiny_dense(bool tied);
spec::ModelShape tiny_moe();

// Value of a parameter's element: a function of our name and the flat index, and a number that bfloat16, float16 and
// float32 hold exactly.
float weight_value(const std::string& parameter, int64_t index);
std::vector<float> weight_values(const std::string& parameter, int64_t first, int64_t count);

struct StoredTensor {
  std::string name;
  Dtype dtype = Dtype::kFloat32;
  std::vector<int64_t> shape;
  std::string bytes;
  std::string file;
};

struct HfScene {
  nlohmann::ordered_json config;
  std::vector<StoredTensor> tensors;
  bool with_index = false;
  nlohmann::ordered_json index;  // filled by cut_into_files

  StoredTensor& tensor(const std::string& name);
  void remove(const std::string& name);
  // Tensors one after the other in turn, and an index.
  void cut_into_files(int count);
  void write(const std::string& folder) const;
};

enum class HfLayout { kVersion4, kVersion5 };

HfScene hf_scene(const spec::ModelShape& model, Dtype dtype = Dtype::kBfloat16, HfLayout layout = HfLayout::kVersion4,
                 bool tied_head = false);
// `values` as the bytes of a tensor.
std::string encode(const std::vector<float>& values, Dtype dtype);

}  // namespace qwen3::checkpoint::testing
