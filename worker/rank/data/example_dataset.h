// Examples with a prompt and a response, packed whole into sequences.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "worker/rank/data/dataset.h"
#include "worker/rank/data/token_file.h"

namespace qwen3::data {

// Where the sequences begin: each takes the next examples, in the order of the file, as long as they fit whole; one
// that is longer than a sequence stands alone and loses its end.
struct ExamplePacking {
  std::vector<int64_t> first;  // example of each sequence, and behind them the number of examples
  int64_t cut = 0;             // examples that lose their end
};
ExamplePacking pack_examples(const TokenFile& file, int64_t seq_len);

// Sequences [first, first + count) of a packing. Every example is a document; its labels are its response and the
// end-of-text token behind it. What is left of a sequence is filled with `filler`, a document without labels.
std::shared_ptr<const Dataset> make_example_dataset(std::shared_ptr<const TokenFile> file,
                                                    std::shared_ptr<const ExamplePacking> packing, int64_t seq_len,
                                                    int64_t first, int64_t count, int64_t filler);

}  // namespace qwen3::data
