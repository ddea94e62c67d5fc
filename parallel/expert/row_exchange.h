// How token rows travel between the ranks that divide the experts. The plain way is the group's all-to-all; another
// back end (one that a device runs by itself, say) takes its place here.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "parallel/mesh.h"

namespace qwen3::parallel {

// Collective over its axis: every rank makes the same calls in the same order, in backward as well.
class RowExchange {
 public:
  virtual ~RowExchange() = default;

  // counts [size, n] int64 on the CPU, row r for rank r -> the same shape, row r from rank r. Sent on `device`, which
  // is that of the rows.
  virtual at::Tensor counts(const at::Tensor& counts, at::Device device) const = 0;

  // rows [sum of sent, D], sent[r] of them for each rank r, one after the other -> [sum of received, D], received[r]
  // from each. Differentiable: the gradients travel back.
  virtual at::Tensor rows(const at::Tensor& rows, const std::vector<int64_t>& sent,
                          const std::vector<int64_t>& received) const = 0;
};

std::shared_ptr<const RowExchange> all_to_all_exchange(const MeshAxis& axis);

}  // namespace qwen3::parallel
