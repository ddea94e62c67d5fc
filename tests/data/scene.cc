#include "tests/data/scene.h"

#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include <fstream>
#include <stdexcept>

#include "absl/strings/escaping.h"

namespace qwen3::data {
namespace {

std::string gzip(std::string_view content) {
  z_stream stream{};
  constexpr int kGzipWindow = 15 + 16;
  if (deflateInit2(&stream, 1, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) != Z_OK) throw std::bad_alloc();
  std::string result(deflateBound(&stream, content.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(result.data());
  stream.avail_out = static_cast<uInt>(result.size());
  deflate(&stream, Z_FINISH);
  result.resize(stream.total_out);
  deflateEnd(&stream);
  return result;
}

std::string zstd(std::string_view content) {
  std::string result(ZSTD_compressBound(content.size()), '\0');
  result.resize(ZSTD_compress(result.data(), result.size(), content.data(), content.size(), 1));
  return result;
}

}  // namespace

Scene::Scene() {
  std::filesystem::create_directory(folder_ / "text");
  std::ofstream tokens(folder_ / "bytes.tiktoken");
  for (int byte = 0; byte < 256; ++byte) {
    tokens << absl::Base64Escape(std::string(1, static_cast<char>(byte))) << ' ' << byte << '\n';
  }
}

void Scene::write(const std::string& name, std::string_view content) const {
  std::ofstream file(folder_ / "text" / name, std::ios::binary);
  if (name.ends_with(".gz")) {
    file << gzip(content);
  } else if (name.ends_with(".zst")) {
    file << zstd(content);
  } else {
    file << content;
  }
}

OpenOptions Scene::options(int64_t seq_len, double held_out) {
  OpenOptions options;
  options.data.path = path("text");
  options.data.tokenizer = path("bytes.tiktoken");
  options.data.seq_len = seq_len;
  options.held_out = held_out;
  options.vocab = 282;  // 256 bytes and the 26 added tokens
  options.cache_folder = path("cache");
  options.progress = [this](const std::string& sentence) { said.push_back(sentence); };
  return options;
}

std::vector<int64_t> all_ids(const Dataset& dataset) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < dataset.sequences(); ++i) {
    const Sample sample = dataset.at(i);
    ids.insert(ids.end(), sample.ids.begin(), sample.ids.end());
  }
  return ids;
}

std::string error_of(const OpenOptions& options) {
  try {
    open(options);
  } catch (const std::runtime_error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace qwen3::data
