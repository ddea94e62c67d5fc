// The parameters of a model by name and shape, without the model. Names are torchtitan's, shapes [out, in].
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "spec/flavor.h"

namespace qwen3::spec {

struct ParameterShape {
  std::string name;  // "layers.3.attention.wq.weight"
  std::vector<int64_t> shape;
  int64_t layer = 0;  // which of the layers gathers it: 0 the embedding, then the blocks, last norm and head
};

// All of them, in the order of the layers. A tied head is none.
std::vector<ParameterShape> parameters(const ModelShape& model);

// Those of one block, named from there ("attention.wq.weight"), in the same order.
std::vector<ParameterShape> block_parameters(const ModelShape& model);

}  // namespace qwen3::spec
