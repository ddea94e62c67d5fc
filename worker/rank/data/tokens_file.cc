#include "worker/rank/data/tokens_file.h"

#include <optional>
#include <span>
#include <stdexcept>

#include "checkpoint/safetensors.h"

namespace qwen3::data {
namespace {

using checkpoint::TensorEntry;

constexpr int64_t kNoLabel = -100;

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

class TokensFile final : public Dataset {
 public:
  TokensFile(const std::string& path, const TokensLimits& limits)
      : path_(path), limits_(limits), file_(open_file(path)) {
    auto header = checkpoint::read_safetensors_header(file_);
    if (!header.ok()) throw std::runtime_error("tokens file " + std::string(header.status().message()));
    data_offset_ = header->data_offset;
    for (const auto& [name, entry] : header->tensors) {
      if (name != "ids" && name != "labels" && name != "positions") {
        fail("unexpected tensor \"" + name + "\"; it may hold ids, labels and positions");
      }
      check_layout(name, entry);
    }
    const auto find = [&](const char* name) -> std::optional<int64_t> {
      const auto found = header->tensors.find(name);
      if (found == header->tensors.end()) return std::nullopt;
      return data_offset_ + found->second.begin;
    };
    const auto ids = find("ids");
    if (!ids) fail("has no tensor \"ids\"");
    const std::vector<int64_t>& shape = header->tensors.at("ids").shape;
    sequences_ = shape[0];
    length_ = shape[1];
    for (const auto& [name, entry] : header->tensors) {
      if (entry.shape != shape) {
        fail("\"" + name + "\" is " + shape_text(entry.shape) + ", but \"ids\" is " + shape_text(shape));
      }
    }
    if (sequences_ < 1 || length_ < 1) fail("\"ids\" is " + shape_text(shape) + ": it holds no token");
    if (limits.longest > 0 && length_ > limits.longest) {
      fail("its sequences have " + std::to_string(length_) + " tokens, the model takes at most " +
           std::to_string(limits.longest));
    }
    ids_ = *ids;
    labels_ = find("labels");
    positions_ = find("positions");
    for (int64_t row = 0; row < sequences_; ++row) check(row, at(row));
  }

  int64_t sequences() const override { return sequences_; }
  int64_t tokens() const override { return sequences_ * length_; }

  Sample at(int64_t index) const override {
    if (index < 0 || index >= sequences_) {
      throw std::out_of_range("sequence " + std::to_string(index) + " of " + std::to_string(sequences_));
    }
    Sample sample;
    sample.ids = row(ids_, index);
    if (positions_) {
      sample.positions = row(*positions_, index);
    } else {
      for (int64_t s = 0; s < length_; ++s) sample.positions.push_back(s);
    }
    if (labels_) {
      sample.labels = row(*labels_, index);
    } else {
      for (int64_t s = 0; s < length_; ++s) {
        sample.labels.push_back(s + 1 < length_ ? sample.ids[s + 1] : kNoLabel);
      }
    }
    return sample;
  }

 private:
  static checkpoint::InputFile open_file(const std::string& path) {
    auto file = checkpoint::InputFile::open(path);
    if (!file.ok()) throw std::runtime_error("tokens file " + std::string(file.status().message()));
    return *std::move(file);
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error("tokens file " + path_ + ": " + what);
  }

  void check_layout(const std::string& name, const TensorEntry& entry) const {
    if (entry.dtype == checkpoint::Dtype::kInt64 && entry.shape.size() == 2) return;
    fail("\"" + name + "\" is " + checkpoint::dtype_name(entry.dtype) + " " + shape_text(entry.shape) +
         ", wanted int64 (I64) [sequences, tokens]");
  }

  std::vector<int64_t> row(int64_t begin, int64_t index) const {
    std::vector<int64_t> values(static_cast<size_t>(length_));
    const absl::Status status =
        file_.read(begin + index * length_ * 8, std::as_writable_bytes(std::span<int64_t>(values)));
    if (!status.ok()) throw std::runtime_error("tokens file " + std::string(status.message()));
    return values;
  }

  void check(int64_t index, const Sample& sample) const {
    const auto bad = [&](const char* name, int64_t s, int64_t got, const std::string& wanted) {
      fail(std::string("\"") + name + "\"[" + std::to_string(index) + ", " + std::to_string(s) + "] is " +
           std::to_string(got) + ", wanted " + wanted);
    };
    const std::string range = "0 to " + std::to_string(limits_.vocab - 1) + ", an entry of the model's vocabulary";
    const auto in_vocabulary = [&](int64_t id) { return id >= 0 && id < limits_.vocab; };
    for (int64_t s = 0; s < length_; ++s) {  // before the labels, which may be made of them
      if (!in_vocabulary(sample.ids[s])) bad("ids", s, sample.ids[s], range);
    }
    for (int64_t s = 0; s < length_; ++s) {
      if (sample.labels[s] != kNoLabel && !in_vocabulary(sample.labels[s])) {
        bad("labels", s, sample.labels[s], range + ", or -100 where there is no target");
      }
      const int64_t position = sample.positions[s];
      const int64_t next = s == 0 ? 0 : sample.positions[s - 1] + 1;
      if (position == 0 || position == next) continue;
      bad("positions", s, position,
          s == 0 ? "0: a sequence begins with a document" : std::to_string(next) + ", or 0 where a document starts");
    }
  }

  std::string path_;
  TokensLimits limits_;
  checkpoint::InputFile file_;
  int64_t data_offset_ = 0;
  int64_t sequences_ = 0;
  int64_t length_ = 0;
  int64_t ids_ = 0;  // offset in the file, like the two below
  std::optional<int64_t> labels_;
  std::optional<int64_t> positions_;
};

}  // namespace

std::shared_ptr<const Dataset> open_tokens_file(const std::string& path, const TokensLimits& limits) {
  return std::make_shared<TokensFile>(path, limits);
}

}  // namespace qwen3::data
