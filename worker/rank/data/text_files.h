// Which files make up a text.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace qwen3::data {

struct TextFile {
  std::string path;
  bool jsonl = false;  // each line {"text": ...} is a document; else the whole file is one
  int64_t bytes = 0;   // of the file as it is stored
};

// A file, or a folder's files in order of name: .txt and .jsonl, both also .gz and .zst. Other files of a folder are
// passed over. Throws std::runtime_error if there is none, a file is empty, or it is Parquet.
std::vector<TextFile> list_text_files(const std::string& path);

}  // namespace qwen3::data
