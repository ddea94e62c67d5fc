#include "worker/rank/data/example_dataset.h"

#include <algorithm>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

namespace qwen3::data {
namespace {

constexpr int64_t kNoLabel = -100;

int64_t begin_of(const TokenFile& file, int64_t example) {
  return example == 0 ? 0 : static_cast<int64_t>(file.document_ends()[example - 1]);
}

class ExampleDataset final : public Dataset {
 public:
  ExampleDataset(std::shared_ptr<const TokenFile> file, std::shared_ptr<const ExamplePacking> packing, int64_t seq_len,
                 int64_t first, int64_t count, int64_t filler)
      : file_(std::move(file)),
        packing_(std::move(packing)),
        seq_len_(seq_len),
        first_(first),
        count_(count),
        filler_(filler) {}

  int64_t sequences() const override { return count_; }
  int64_t tokens() const override { return count_ * seq_len_; }

  Sample at(int64_t index) const override {
    if (index < 0 || index >= count_) {
      throw std::out_of_range("sequence " + std::to_string(index) + " of " + std::to_string(count_));
    }
    Sample sample;
    const int64_t last = packing_->first[first_ + index + 1];
    for (int64_t example = packing_->first[first_ + index]; example < last; ++example) append(example, sample);
    for (int64_t position = 0; static_cast<int64_t>(sample.ids.size()) < seq_len_; ++position) {
      sample.ids.push_back(filler_);
      sample.labels.push_back(kNoLabel);
      sample.positions.push_back(position);
    }
    return sample;
  }

 private:
  void append(int64_t example, Sample& sample) const {
    const int64_t begin = begin_of(*file_, example);
    const auto end = static_cast<int64_t>(file_->document_ends()[example]);
    const auto response = static_cast<int64_t>(file_->response_begins()[example]);
    for (int64_t token = begin; token < std::min(end, begin + seq_len_); ++token) {
      const bool trained = token + 1 >= response && token + 1 < end;
      sample.ids.push_back(file_->token(token));
      sample.labels.push_back(trained ? file_->token(token + 1) : kNoLabel);
      sample.positions.push_back(token - begin);
    }
  }

  std::shared_ptr<const TokenFile> file_;
  std::shared_ptr<const ExamplePacking> packing_;
  int64_t seq_len_;
  int64_t first_;
  int64_t count_;
  int64_t filler_;
};

}  // namespace

ExamplePacking pack_examples(const TokenFile& file, int64_t seq_len) {
  ExamplePacking packing;
  int64_t used = seq_len;  // tokens of the sequence that is being filled
  for (int64_t example = 0; example < file.documents(); ++example) {
    const int64_t tokens = static_cast<int64_t>(file.document_ends()[example]) - begin_of(file, example);
    if (tokens > seq_len) ++packing.cut;
    if (used + tokens > seq_len) {
      packing.first.push_back(example);
      used = 0;
    }
    used += tokens;
  }
  packing.first.push_back(file.documents());
  return packing;
}

std::shared_ptr<const Dataset> make_example_dataset(std::shared_ptr<const TokenFile> file,
                                                    std::shared_ptr<const ExamplePacking> packing, int64_t seq_len,
                                                    int64_t first, int64_t count, int64_t filler) {
  return std::make_shared<ExampleDataset>(std::move(file), std::move(packing), seq_len, first, count, filler);
}

}  // namespace qwen3::data
