// A parameter knows its global identity; how it is sharded or freed is the business of parallel/.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace qwen3::model {

enum class Init { kOnes, kNormal };

// One use of a weight. A tied weight has two uses (embedding, head), hence two Parameters with the same `tensor` name,
// each with a gradient accumulator of its own, so that their sum is the same in one graph and on two pipeline stages.
struct Parameter {
  std::string name;            // of this use, e.g. "layers.3.attention.wq.weight", "lm_head.weight"
  std::string tensor;          // of the weight; differs from `name` only for a tied head ("tok_embeddings.weight")
  std::vector<int64_t> shape;  // global
  Init init = Init::kNormal;
  double init_std = 0.02;
  // What forward reads: the whole weight in the compute dtype, an autograd leaf. Set before the first forward by
  // materialise() (single device) or parallel::ShardedModel; its storage may come and go between uses.
  at::Tensor weight;
};

// State of the model that no gradient changes: whole on every rank and part of checkpoints.
struct Buffer {
  enum class Kind { kReal, kCount };  // float32 (float64 in a float64 model), or int64
  std::string name;                   // e.g. "layers.3.moe.expert_bias"
  std::vector<int64_t> shape;
  Kind kind = Kind::kReal;
  at::Tensor value;  // zeros after materialise() or sharding
};

// Parameters in the order of construction, with addresses that stay valid. A unit is what is gathered and freed as
// one: the embedding, each block, and the final norm with the head.
class ParameterSet {
 public:
  // Adds to the unit begun last. `tensor` empty: same as name.
  Parameter& add(std::string name, std::vector<int64_t> shape, Init init, double init_std = 0.02,
                 std::string tensor = "");
  void begin_unit(std::string name);
  Buffer& add_buffer(std::string name, std::vector<int64_t> shape, Buffer::Kind kind);

  struct Unit {
    std::string name;  // "tok_embeddings", "layers.0", ..., "head"
    std::vector<Parameter*> parameters;
  };
  const std::deque<Unit>& units() const { return units_; }
  std::deque<Unit>& units() { return units_; }
  std::deque<Buffer>& buffers() { return buffers_; }
  // Every buffer becomes zeros, real ones in `real`.
  void zero_buffers(at::ScalarType real, at::Device device = at::kCPU);

 private:
  std::deque<Parameter> parameters_;
  std::deque<Unit> units_;
  std::deque<Buffer> buffers_;
};

// Gives every parameter its whole initial weight on the CPU in `dtype` and makes it a leaf; tied uses share storage.
// Buffers become zeros.
// For single-device use: tests, evaluation. The initial values do not depend on dtype beyond rounding.
void materialise(ParameterSet& parameters, uint64_t seed, at::ScalarType dtype);

}  // namespace qwen3::model
