// Reads a golden file: tensors that another implementation computed. Its metadata entry "made_by" says which.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

#include "checkpoint/safetensors.h"

namespace qwen3::golden {

class Golden {
 public:
  // `file`: a name in tests/golden. Throws std::runtime_error naming the file.
  explicit Golden(const std::string& file);

  bool has(const std::string& tensor) const { return header_.tensors.contains(tensor); }
  at::Tensor tensor(const std::string& name) const;  // float32, float64 or int64
  double number(const std::string& key) const;       // from the metadata
  const std::string& text(const std::string& key) const;

 private:
  std::string path_;
  checkpoint::SafetensorsHeader header_;
};

}  // namespace qwen3::golden
