// A tiny Qwen3 run whose outcome can be compared bit by bit across meshes.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "parallel/fsdp/sharded_model.h"
#include "spec/run_spec.h"
#include "worker/rank/data/dataset.h"

namespace qwen3::testing {

// Random tokens with a document boundary in some sequences; a pure function of the index.
class SyntheticText : public data::Dataset {
 public:
  SyntheticText(int64_t sequences, int64_t seq_len, int64_t vocab)
      : sequences_(sequences), seq_len_(seq_len), vocab_(vocab) {}
  int64_t sequences() const override { return sequences_; }
  int64_t tokens() const override { return sequences_ * seq_len_; }
  data::Sample at(int64_t index) const override;

 private:
  int64_t sequences_, seq_len_, vocab_;
};

// Its sequences with two documents, so that each microbatch has the mask of documents.
class TwoDocuments final : public SyntheticText {
 public:
  using SyntheticText::SyntheticText;
  data::Sample at(int64_t index) const override { return SyntheticText::at(3 * index); }
};

// Fifty sequences for the run.
std::shared_ptr<SyntheticText> text_of(const spec::RunSpec& run);
std::shared_ptr<TwoDocuments> two_documents_of(const spec::RunSpec& run);

// Eight microbatches of two sequences per step, ordered mode, float32. `mesh` decides how many each rank runs.
spec::RunSpec tiny_run(const spec::Mesh& mesh, bool tied);

// The same with a mixture of six experts, two for each token, untied. Six rows leave the fourth of four shards empty.
spec::RunSpec tiny_moe_run(const spec::Mesh& mesh, const spec::MoeSpec& moe);

// What must be equal: exact losses (and auxiliary losses) and gradient norms of every step, and the digest of weights,
// moments and buffers.
struct Outcome {
  std::vector<std::string> losses;
  std::vector<std::string> norms;
  std::string state_digest;
  bool operator==(const Outcome&) const = default;
};
void PrintTo(const Outcome& outcome, std::ostream* out);

// Trains `steps` steps on ranks as threads.
Outcome train(const spec::RunSpec& run, int64_t steps);

}  // namespace qwen3::testing
