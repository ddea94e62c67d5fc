// Continues two prompts greedily with the plain model and writes tokens and logits. bench/check_hf_export.py compares
// what transformers does with an export of the same weights.
// Usage: greedy_tokens FOLDER OUT.safetensors; FOLDER is a checkpoint of ours or a Hugging Face folder.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cstddef>
#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/tensor_source.h"
#include "model/qwen3.h"
#include "tests/golden/hf_case.h"

namespace {

using namespace qwen3;

constexpr int64_t kPrompts = 2, kPrompt = 8, kNew = 24;  // sequences, tokens given, tokens chosen

std::unique_ptr<checkpoint::TensorSource> open_source(const std::string& folder) {
  const bool native = std::filesystem::exists(folder + "/" + checkpoint::kManifestName);
  auto source = native ? checkpoint::open_native_source(folder) : checkpoint::open_hf_source(folder);
  if (!source.ok()) throw std::runtime_error(std::string(source.status().message()));
  return *std::move(source);
}

checkpoint::TensorBytes bytes_of(const std::string& name, checkpoint::Dtype dtype, const at::Tensor& tensor) {
  return {name,
          dtype,
          tensor.sizes().vec(),
          {static_cast<const std::byte*>(tensor.const_data_ptr()), static_cast<size_t>(tensor.nbytes())}};
}

void run(const std::string& folder, const std::string& out) {
  const c10::NoGradGuard no_grad;
  const auto source = open_source(folder);
  model::ParameterSet parameters;
  const model::Qwen3 model(source->model(), parameters);
  golden::load_weights(*source, parameters, at::kFloat);

  at::Tensor ids = at::arange(kPrompts * kPrompt).mul_(7).add_(3).remainder_(source->model().vocab);
  ids = ids.view({kPrompts, kPrompt});
  at::Tensor logits;
  for (int64_t length = kPrompt;; ++length) {
    const at::Tensor positions = at::arange(length).expand({kPrompts, length}).contiguous();
    logits = model.logits({.ids = ids, .labels = {}, .positions = positions}).contiguous();  // [B, length, V]
    if (length == kPrompt + kNew) break;
    ids = at::cat({ids, logits.select(1, length - 1).argmax(-1, /*keepdim=*/true)}, 1);
  }
  const std::vector<checkpoint::TensorBytes> tensors = {bytes_of("ids", checkpoint::Dtype::kInt64, ids),
                                                        bytes_of("logits", checkpoint::Dtype::kFloat32, logits)};
  const auto written = checkpoint::write_safetensors(out, tensors, {{"prompt", std::to_string(kPrompt)}});
  if (!written.ok()) throw std::runtime_error(std::string(written.status().message()));
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) throw std::runtime_error("usage: greedy_tokens FOLDER OUT.safetensors");
  run(argv[1], argv[2]);
  return 0;
} catch (const std::exception& e) {
  std::cerr << "greedy_tokens: " << e.what() << '\n';
  return 1;
}
