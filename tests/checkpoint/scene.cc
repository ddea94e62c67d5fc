#include "tests/checkpoint/scene.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <string_view>

#include "checkpoint/manifest.h"

namespace qwen3::checkpoint::testing {

void write_bytes(const std::string& path, const std::string& bytes) {
  std::filesystem::remove(path);  // ext4 writes a truncated file to disk when it is closed, a new one not
  std::ofstream stream(path, std::ios::binary);
  stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!stream.flush()) throw std::runtime_error("cannot write " + path);
}

std::string read_bytes(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

void cut_into_chunks(const std::string& folder, int64_t chunk_bytes) {
  Manifest manifest = read_manifest(folder).value();
  const auto size = static_cast<size_t>(chunk_bytes);
  for (auto& [name, file] : manifest.files) {
    const std::string text = read_bytes(folder + "/" + name);
    file.chunk_bytes = chunk_bytes;
    file.xxh3_128.clear();
    for (size_t begin = 0; begin < text.size(); begin += size) {
      file.xxh3_128.push_back(bytes_digest(std::string_view(text).substr(begin, size)));
    }
  }
  ASSERT_TRUE(write_manifest(folder, manifest).ok());
}

int64_t bytes_read() {
  std::ifstream file("/proc/thread-self/io");
  std::string key;
  int64_t value = 0;
  return file >> key >> value && key == "rchar:" ? value : 0;
}

int64_t count_of(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

std::vector<float> ramp(int64_t count, float first) {
  std::vector<float> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

}  // namespace qwen3::checkpoint::testing
