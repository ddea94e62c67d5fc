#include "worker/rank/data/text_files.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace qwen3::data {
namespace {

namespace fs = std::filesystem;

constexpr char kEndings[] = ".txt, .jsonl, .txt.gz, .jsonl.gz, .txt.zst or .jsonl.zst";

enum class Kind { kText, kJsonl, kParquet, kOther };

Kind kind_of(std::string_view name) {
  if (name.ends_with(".parquet")) return Kind::kParquet;
  for (const std::string_view compression : {".gz", ".zst"}) {
    if (name.ends_with(compression)) name.remove_suffix(compression.size());
  }
  return name.ends_with(".txt") ? Kind::kText : name.ends_with(".jsonl") ? Kind::kJsonl : Kind::kOther;
}

bool begins_as_parquet(const std::string& path) {
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof(magic));
  return std::string_view(magic, 4) == "PAR1";
}

TextFile check_file(const std::string& path, Kind kind) {
  if (kind == Kind::kParquet || begins_as_parquet(path)) {
    throw std::runtime_error("data file " + path +
                             ": Parquet is not read here; convert it to JSON lines with a \"text\" string each "
                             "(.jsonl or .jsonl.zst)");
  }
  if (kind == Kind::kOther) throw std::runtime_error("data file " + path + ": wanted a name in " + kEndings);
  const auto bytes = static_cast<int64_t>(fs::file_size(path));
  if (bytes == 0) throw std::runtime_error("data file " + path + ": is empty");
  return {path, kind == Kind::kJsonl, bytes};
}

}  // namespace

std::vector<TextFile> list_text_files(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) throw std::runtime_error("data " + path + ": no such file or folder");
  if (fs::is_regular_file(status)) return {check_file(path, kind_of(path))};
  if (!fs::is_directory(status)) throw std::runtime_error("data " + path + ": neither a file nor a folder");
  std::vector<TextFile> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename();
    const Kind kind = kind_of(name);
    if (name.starts_with('.') || !entry.is_regular_file() || kind == Kind::kOther) continue;
    files.push_back(check_file(entry.path(), kind));
  }
  if (files.empty()) throw std::runtime_error("data folder " + path + ": holds no file whose name ends in " + kEndings);
  std::sort(files.begin(), files.end(), [](const TextFile& a, const TextFile& b) { return a.path < b.path; });
  return files;
}

}  // namespace qwen3::data
