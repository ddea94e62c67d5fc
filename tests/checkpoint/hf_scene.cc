#include "tests/checkpoint/hf_scene.h"

#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <stdexcept>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "checkpoint/float_conversion.h"
#include "checkpoint/hf/names.h"
#include "tests/checkpoint/scene.h"

namespace qwen3::checkpoint::testing {
namespace {

nlohmann::ordered_json config_of(const spec::ModelShape& model, Dtype dtype) {
  const bool moe = model.experts > 0;
  nlohmann::ordered_json config = {{"architectures", {moe ? "Qwen3MoeForCausalLM" : "Qwen3ForCausalLM"}},
                                   {"attention_bias", false},
                                   {"head_dim", model.head_dim},
                                   {"hidden_act", "silu"},
                                   {"hidden_size", model.dim},
                                   {"intermediate_size", moe ? 6144 : model.ffn_hidden},
                                   {"max_position_embeddings", model.max_seq_len},
                                   {"model_type", moe ? "qwen3_moe" : "qwen3"},
                                   {"num_attention_heads", model.heads},
                                   {"num_hidden_layers", model.layers},
                                   {"num_key_value_heads", model.kv_heads},
                                   {"rms_norm_eps", model.norm_eps},
                                   {"rope_scaling", nullptr},
                                   {"rope_theta", model.rope_theta},
                                   {"tie_word_embeddings", model.tied},
                                   {"torch_dtype", dtype == Dtype::kBfloat16  ? "bfloat16"
                                                   : dtype == Dtype::kFloat16 ? "float16"
                                                                              : "float32"},
                                   {"use_sliding_window", false},
                                   {"vocab_size", model.vocab}};
  if (moe) {
    config.update(nlohmann::ordered_json{{"decoder_sparse_step", 1},
                                         {"mlp_only_layers", nlohmann::json::array()},
                                         {"moe_intermediate_size", model.expert_hidden},
                                         {"norm_topk_prob", model.norm_topk_prob},
                                         {"num_experts", model.experts},
                                         {"num_experts_per_tok", model.experts_per_token}});
  }
  return config;
}

// The fused tensors of version 5 in place of the experts' matrices.
void fuse(const spec::ModelShape& model, Dtype dtype, std::vector<StoredTensor>& tensors) {
  std::erase_if(tensors, [](const StoredTensor& t) { return absl::StrContains(t.name, ".mlp.experts."); });
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const std::string ours = absl::StrCat("layers.", layer, ".moe.experts."),
                      theirs = absl::StrCat("model.layers.", layer, ".mlp.experts.");
    const int64_t matrix = model.expert_hidden * model.dim;
    std::string gate_up;
    for (int64_t expert = 0; expert < model.experts; ++expert) {
      for (const char* name : {"w1", "w3"})
        gate_up += encode(weight_values(ours + name, expert * matrix, matrix), dtype);
    }
    tensors.push_back(
        {theirs + "gate_up_proj", dtype, {model.experts, 2 * model.expert_hidden, model.dim}, gate_up, ""});
    tensors.push_back({theirs + "down_proj",
                       dtype,
                       {model.experts, model.dim, model.expert_hidden},
                       encode(weight_values(ours + "w2", 0, model.experts * matrix), dtype),
                       ""});
  }
}

}  // namespace

spec::ModelShape tiny_dense(bool tied) {
  return {.flavor = "",
          .dim = 8,
          .layers = 2,
          .heads = 3,
          .kv_heads = 1,
          .head_dim = 4,
          .ffn_hidden = 20,
          .vocab = 300,
          .rope_theta = 1e6,
          .max_seq_len = 64,
          .tied = tied};
}

spec::ModelShape tiny_moe() {
  spec::ModelShape model = tiny_dense(/*tied=*/false);
  model.ffn_hidden = 0;
  model.experts = 5;
  model.experts_per_token = 2;
  model.expert_hidden = 6;
  return model;
}

float weight_value(const std::string& parameter, int64_t index) {
  const uint64_t start = std::hash<std::string>{}(parameter) % 1009;
  const auto step = static_cast<int64_t>((start + static_cast<uint64_t>(index)) % 251);
  return static_cast<float>(step - 125) / 64.0F;  // at most 7 bits
}

std::vector<float> weight_values(const std::string& parameter, int64_t first, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = weight_value(parameter, first + i);
  return values;
}

std::string encode(const std::vector<float>& values, Dtype dtype) {
  std::string bytes(values.size() * static_cast<size_t>(item_size(dtype)), '\0');
  convert_values(bytes_of(values), Dtype::kFloat32, std::as_writable_bytes(std::span(bytes)), dtype);
  return bytes;
}

HfScene hf_scene(const spec::ModelShape& model, Dtype dtype, HfLayout layout, bool tied_head) {
  HfScene scene;
  scene.config = config_of(model, dtype);
  for (const HfTensor& tensor : hf_tensors(model, tied_head)) {
    const int64_t count = count_of(tensor.shape);
    const int64_t first = tensor.rows == 1 ? tensor.row_begin * count : 0;
    const std::string bytes = encode(weight_values(tensor.parameter, first, count), dtype);
    scene.tensors.push_back({tensor.name, dtype, tensor.shape, bytes, ""});
  }
  if (layout == HfLayout::kVersion5 && model.experts > 0) fuse(model, dtype, scene.tensors);
  for (StoredTensor& tensor : scene.tensors) tensor.file = "model.safetensors";
  return scene;
}

StoredTensor& HfScene::tensor(const std::string& name) {
  for (StoredTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  throw std::out_of_range(name);
}

void HfScene::remove(const std::string& name) {
  tensor(name);
  std::erase_if(tensors, [&](const StoredTensor& t) { return t.name == name; });
}

void HfScene::cut_into_files(int count) {
  with_index = true;
  index = {{"metadata", {{"total_size", 1}}}, {"weight_map", nlohmann::ordered_json::object()}};
  for (size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].file = absl::StrFormat("model-%05d-of-%05d.safetensors", i % static_cast<size_t>(count) + 1, count);
    index["weight_map"][tensors[i].name] = tensors[i].file;
  }
}

void HfScene::write(const std::string& folder) const {
  std::filesystem::create_directories(folder);
  write_bytes(folder + "/config.json", config.dump(2));
  if (with_index) write_bytes(folder + "/model.safetensors.index.json", index.dump(2));
  std::map<std::string, std::vector<TensorBytes>> files;
  for (const StoredTensor& tensor : tensors) {
    files[tensor.file].push_back({tensor.name, tensor.dtype, tensor.shape, std::as_bytes(std::span(tensor.bytes))});
  }
  for (const auto& [name, content] : files) {
    const auto written = write_safetensors(absl::StrCat(folder, "/", name), content, {{"format", "pt"}});
    if (!written.ok()) throw std::runtime_error(std::string(written.status().message()));
  }
}

}  // namespace qwen3::checkpoint::testing
