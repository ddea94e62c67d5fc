#include "tests/spec/stub_data_root.h"

#include <filesystem>
#include <fstream>

namespace qwen3::spec::config {

StubDataRoot::StubDataRoot() {
  file("datasets/shakespeare/plays.txt");
  file("tokenizers/qwen3.tiktoken");
  file("tokenizers/qwen3-2048.tiktoken");
}

std::string StubDataRoot::file(const std::string& name) const {
  const std::filesystem::path path = std::filesystem::path(folder_.path()) / name;
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path).put('\n');
  return path.string();
}

}  // namespace qwen3::spec::config
