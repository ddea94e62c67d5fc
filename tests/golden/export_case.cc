// Puts a Hugging Face folder through our formats and says how our model continues text with its weights:
// FOLDER -> OUT/native, a checkpoint of ours -> OUT/hf, our export; the checkpoint -> OUT/greedy.safetensors, two
// prompts continued greedily, and the logits. bench/check_hf_export.py compares that with what transformers makes of
// OUT/hf. Usage: export_case FOLDER OUT
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cstddef>
#include <exception>
#include <filesystem>
#include <iostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/convert.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/tensor_source.h"
#include "model/qwen3.h"
#include "tests/golden/hf_case.h"

namespace {

using namespace qwen3;

constexpr int64_t kPrompts = 2, kPrompt = 8, kNew = 24;  // sequences, tokens given, tokens chosen

// The value, or a throw of the error's message.
template <typename T>
T take(absl::StatusOr<T> result) {
  if (!result.ok()) throw std::runtime_error(std::string(result.status().message()));
  return *std::move(result);
}

checkpoint::TensorBytes bytes_of(const std::string& name, checkpoint::Dtype dtype, const at::Tensor& tensor) {
  return {name,
          dtype,
          tensor.sizes().vec(),
          {static_cast<const std::byte*>(tensor.const_data_ptr()), static_cast<size_t>(tensor.nbytes())}};
}

void write_greedy(const std::string& checkpoint, const std::string& out) {
  const c10::NoGradGuard no_grad;
  const auto source = take(checkpoint::open_native_source(checkpoint));
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
  take(checkpoint::write_safetensors(out, tensors, {{"prompt", std::to_string(kPrompt)}}));
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) throw std::runtime_error("usage: export_case FOLDER OUT");
  using checkpoint::Format;
  const std::string out = argv[2];
  std::filesystem::create_directories(out);
  take(checkpoint::convert({Format::kHf, argv[1]}, {Format::kNative, out + "/native"}));
  take(checkpoint::convert({Format::kNative, out + "/native"}, {Format::kHf, out + "/hf"}));
  write_greedy(out + "/native", out + "/greedy.safetensors");
  return 0;
} catch (const std::exception& e) {
  std::cerr << "export_case: " << e.what() << '\n';
  return 1;
}
