#include "worker/rank/data/dataset.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "tokenizer/tokenizer.h"
#include "worker/rank/data/example_dataset.h"
#include "worker/rank/data/token_cache.h"
#include "worker/rank/data/token_file.h"

namespace qwen3::data {
namespace {

constexpr int64_t kNoLabel = -100;

// Sequences [first, first + count) of a token file: sequence i is tokens [i S, i S + S), its labels the tokens one
// further, so neighbours share one token.
class PackedDataset final : public Dataset {
 public:
  PackedDataset(std::shared_ptr<const TokenFile> file, int64_t seq_len, int64_t first, int64_t count)
      : file_(std::move(file)), seq_len_(seq_len), first_(first), count_(count) {}

  int64_t sequences() const override { return count_; }
  int64_t tokens() const override { return count_ * seq_len_; }

  Sample at(int64_t index) const override {
    if (index < 0 || index >= count_) {
      throw std::out_of_range("sequence " + std::to_string(index) + " of " + std::to_string(count_));
    }
    const int64_t begin = (first_ + index) * seq_len_;
    const std::span<const uint64_t> ends = file_->document_ends();
    auto end = std::upper_bound(ends.begin(), ends.end(), static_cast<uint64_t>(begin));
    Sample sample;
    sample.ids.resize(seq_len_);
    sample.labels.resize(seq_len_);
    sample.positions.resize(seq_len_);
    for (int64_t s = 0, position = 0; s < seq_len_; ++s) {
      const int64_t next = begin + s + 1;
      const bool document_ends = next == static_cast<int64_t>(*end);
      sample.ids[s] = file_->token(next - 1);
      sample.labels[s] = document_ends ? kNoLabel : file_->token(next);
      sample.positions[s] = position++;
      if (!document_ends) continue;
      position = 0;
      ++end;
    }
    return sample;
  }

 private:
  std::shared_ptr<const TokenFile> file_;
  int64_t seq_len_;
  int64_t first_;
  int64_t count_;
};

void check_ids(const TokenFile& file, const OpenOptions& options, const tokenizer::Tokenizer& tokenizer) {
  if (file.largest_id() < options.vocab) return;
  throw std::runtime_error("data " + options.data.path + ": token id " + std::to_string(file.largest_id()) +
                           " is outside the model's vocabulary of " + std::to_string(options.vocab) +
                           "; the tokenizer " + options.data.tokenizer + " has " +
                           std::to_string(tokenizer.vocab_size()) +
                           " tokens, wanted one with no more than the model's");
}

// How many of `sequences` are held out; at least one of each kind when any is asked for.
int64_t held_out_of(int64_t sequences, double share) {
  if (share == 0) return 0;
  return std::clamp<int64_t>(std::llround(static_cast<double>(sequences) * share), 1, sequences - 1);
}

Splits split_text(const std::shared_ptr<const TokenFile>& file, const OpenOptions& options) {
  const int64_t seq_len = options.data.seq_len;
  const int64_t sequences = (file->tokens() - 1) / seq_len;  // the last label of the last sequence exists
  const int64_t wanted = options.held_out > 0 ? 2 : 1;
  if (sequences < wanted) {
    throw std::runtime_error("data " + options.data.path + ": has " + std::to_string(file->tokens()) +
                             " tokens, wanted at least " + std::to_string(wanted * seq_len + 1) + " for " +
                             std::to_string(wanted) + (wanted == 1 ? " sequence of " : " sequences of ") +
                             std::to_string(seq_len) + (wanted == 1 ? "" : ", one of them held out"));
  }
  const int64_t held_out = held_out_of(sequences, options.held_out);
  const int64_t train = sequences - held_out;
  Splits splits;
  splits.train = std::make_shared<PackedDataset>(file, seq_len, 0, train);
  if (held_out > 0) splits.validation = std::make_shared<PackedDataset>(file, seq_len, train, held_out);
  return splits;
}

Splits split_examples(const std::shared_ptr<const TokenFile>& file, const OpenOptions& options, int64_t filler) {
  const int64_t seq_len = options.data.seq_len;
  const auto packing = std::make_shared<const ExamplePacking>(pack_examples(*file, seq_len));
  const auto sequences = static_cast<int64_t>(packing->first.size()) - 1;
  const int64_t wanted = options.held_out > 0 ? 2 : 1;
  if (sequences < wanted) {
    throw std::runtime_error("data " + options.data.path + ": its " + std::to_string(file->documents()) +
                             " examples fill " + std::to_string(sequences) + " sequences of " +
                             std::to_string(seq_len) + " tokens, wanted at least " + std::to_string(wanted) +
                             (wanted == 1 ? "" : ", one of them held out"));
  }
  if (packing->cut > 0 && options.progress) {
    options.progress(options.data.path + ": " + std::to_string(packing->cut) + " of " +
                     std::to_string(file->documents()) + " examples are longer than seq_len " +
                     std::to_string(seq_len) + " and lose their end");
  }
  const int64_t held_out = held_out_of(sequences, options.held_out);
  const int64_t train = sequences - held_out;
  Splits splits;
  splits.train = make_example_dataset(file, packing, seq_len, 0, train, filler);
  if (held_out > 0) splits.validation = make_example_dataset(file, packing, seq_len, train, held_out, filler);
  return splits;
}

}  // namespace

Splits open(const OpenOptions& options) {
  const absl::StatusOr<tokenizer::Tokenizer> tokenizer = tokenizer::Tokenizer::load(options.data.tokenizer);
  if (!tokenizer.ok()) throw std::runtime_error(std::string(tokenizer.status().message()));
  const int64_t seq_len = options.data.seq_len;
  if (seq_len < 1) throw std::runtime_error("data: seq_len is " + std::to_string(seq_len) + ", wanted at least 1");
  if (!(options.held_out >= 0 && options.held_out < 1)) {
    throw std::runtime_error("data: held-out share is " + std::to_string(options.held_out) + ", wanted [0, 1)");
  }
  const std::shared_ptr<const TokenFile> file = open_token_file(options, *tokenizer);
  check_ids(*file, options, *tokenizer);

  return options.data.prompt_key.empty() ? split_text(file, options)
                                         : split_examples(file, options, tokenizer->eos_id());
}

}  // namespace qwen3::data
