// Token data of a run. Which sample a step sees depends on (seed, step, index) alone, never on the mesh.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "spec/run_spec.h"

namespace qwen3::data {

// One sequence of seq_len tokens, labels already shifted.
struct Sample {
  std::vector<int64_t> ids;        // [S]
  std::vector<int64_t> labels;     // [S]: labels[s] is the token after ids[s]; -100 where there is none
  std::vector<int64_t> positions;  // [S]: position within the document, 0 starts a new one
};

// Tokenised text packed into sequences, with document boundaries kept: plain text is concatenated, then split;
// examples of a prompt and a response (data.prompt_key) are packed whole, and only the responses have labels.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t sequences() const = 0;  // per epoch, >= 1
  virtual int64_t tokens() const = 0;
  // The `index`-th sequence in order of the text.
  virtual Sample at(int64_t index) const = 0;
};

// A training text and its held-out part.
struct Splits {
  std::shared_ptr<const Dataset> train;
  std::shared_ptr<const Dataset> validation;  // null when nothing is held out
};

struct OpenOptions {
  spec::DataSpec data;
  double held_out = 0;                               // share of the tokens at the end of the text kept for validation
  int64_t vocab = 0;                                 // of the model; a token id outside it is an error
  std::string cache_folder;                          // where tokenised files are kept, keyed by content digest
  std::function<void(const std::string&)> progress;  // called with a sentence now and then; may be empty
};

// Tokenises once: the first process that holds the lock file does it, the others wait with progress.
// Throws std::runtime_error whose message names file, line or document, what it got and what it wants.
Splits open(const OpenOptions& options);

// Index into [0, sequences) of sample `index` (0 .. global_batch - 1) of step `step` (from 1): epochs are permuted
// anew, each sequence occurs once an epoch. Pure.
int64_t shuffled_index(uint64_t seed, int64_t sequences, int64_t global_batch, int64_t step, int64_t index);

}  // namespace qwen3::data
