// A temporary folder with text in it, and a tokenizer whose ids are bytes.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tests/temporary_folder.h"
#include "worker/rank/data/dataset.h"

namespace qwen3::data {

inline constexpr int64_t kEos = 256;  // of the byte tokenizer

class Scene {
 public:
  Scene();
  std::string path(const std::string& name) const { return folder_ / name; }
  // Writes text/NAME, compressed as its ending says.
  void write(const std::string& name, std::string_view content) const;
  // Options for all of text/, the byte tokenizer and a cache folder here; messages gather in said.
  OpenOptions options(int64_t seq_len, double held_out = 0);
  std::vector<std::string> said;

 private:
  const qwen3::tests::TemporaryFolder root_{"data"};
  const std::filesystem::path folder_ = root_.path();
};

// All tokens of a dataset: the ids of its sequences, one after another.
std::vector<int64_t> all_ids(const Dataset& dataset);

// The message of the error that open() throws.
std::string error_of(const OpenOptions& options);

}  // namespace qwen3::data
