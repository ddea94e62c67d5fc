#include "tests/spec/stub_data_root.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace qwen3::spec::config {

StubDataRoot::StubDataRoot() {
  std::string pattern = (std::filesystem::temp_directory_path() / "qwen3_spec.XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed for " + pattern);
  path_ = pattern;
  file("datasets/shakespeare/plays.txt");
  file("tokenizers/qwen3.tiktoken");
  file("tokenizers/qwen3-2048.tiktoken");
}

StubDataRoot::~StubDataRoot() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string StubDataRoot::file(const std::string& name) const {
  const std::filesystem::path path = std::filesystem::path(path_) / name;
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path).put('\n');
  return path.string();
}

}  // namespace qwen3::spec::config
