// Qwen3 on one device: embedding, blocks, final norm and head. Start reading here.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "model/parameter.h"
#include "model/seams.h"
#include "spec/flavor.h"
#include "spec/run_spec.h"

namespace qwen3::model {

// One forward's input. All [B, S] int64.
struct Microbatch {
  at::Tensor ids;
  at::Tensor labels;     // labels[b, s] is the target of position s, already shifted; -100 is ignored
  at::Tensor positions;  // position within the document; 0 starts a new document, which attention does not cross

  Microbatch to(at::Device device) const;  // itself if it is there
};

class Block;
class RmsNorm;
struct RoutingContext;
struct RoutingRecord;

class Qwen3 {
 public:
  // Adds its parameters to `parameters` (unit 0 embedding, units 1..layers, last unit final norm and head).
  // Both references must outlive the model.
  Qwen3(const spec::ModelShape& shape, ParameterSet& parameters, Seams seams = plain_seams(),
        const spec::MoeSpec& moe = {});
  ~Qwen3();

  // Sum of the valid tokens' losses (nats) times `scale`, a scalar of at least float32 for backward().
  // Full logits never exist: head and cross entropy run in chunks of tokens.
  // `record` asks for training of a mixture of experts: it gets what every layer's router did, and the objective
  // whose gradient backward() gives has, besides the value returned, each layer's auxiliary loss times the
  // microbatch's valid tokens times `scale`.
  at::Tensor loss(const Microbatch& batch, double scale, RoutingRecord* record = nullptr) const;

  // [B, S, V] in the compute dtype: for tests and evaluation.
  at::Tensor logits(const Microbatch& batch) const;

 private:
  at::Tensor hidden(const Microbatch& batch, const RoutingContext& routing) const;  // after the last block: [B, S, D]

  spec::ModelShape shape_;
  spec::MoeSpec moe_;
  Seams seams_;
  const Parameter* embedding_;  // [V, D]
  std::vector<std::unique_ptr<Block>> blocks_;
  std::unique_ptr<RmsNorm> norm_;
  const Parameter* head_;  // [V, D]
};

}  // namespace qwen3::model
