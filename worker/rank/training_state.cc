#include "worker/rank/training_state.h"

#include <ATen/ATen.h>

#include <map>
#include <utility>
#include <vector>

#include "checkpoint/digest.h"
#include "parallel/collectives.h"

namespace qwen3::rank {

checkpoint::Dtype dtype_of(const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kLong) return checkpoint::Dtype::kInt64;
  return tensor.scalar_type() == at::kDouble ? checkpoint::Dtype::kFloat64 : checkpoint::Dtype::kFloat32;
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

std::string state_digest(const parallel::ShardedModel& model) {
  const parallel::MeshAxis& replica = model.mesh().replica();
  std::map<std::string, checkpoint::TensorDigest> digests;  // of this rank's boxes
  const auto add = [&](std::string name, const at::Tensor& values, const spec::Box& box,
                       const std::vector<int64_t>& shape, bool counts) {
    checkpoint::TensorDigest& digest = digests[std::move(name)];
    digest = {dtype_of(values), shape, {}};
    if (counts) {
      const at::Tensor here = values.to(at::kCPU).contiguous();
      digest.sum = checkpoint::digest_box(bytes_of(here), here.element_size(), box, shape);
    }
  };
  for (const parallel::ShardedTensor* tensor : model.tensors()) {
    for (const StatePart& part : kStateParts) {
      add(part.prefix + tensor->name, tensor->box_of(tensor->*part.flat), tensor->box, tensor->layout.shape,
          tensor->owned);
    }
  }
  for (const model::Buffer& buffer : model.buffers()) {
    add(kModelPrefix + buffer.name, buffer.value, spec::whole_box(buffer.shape), buffer.shape, replica.index() == 0);
  }

  std::vector<int64_t> mine;
  for (const auto& [name, digest] : digests) {
    mine.push_back(static_cast<int64_t>(digest.sum.low));
    mine.push_back(static_cast<int64_t>(digest.sum.high));
  }
  const at::Tensor all = parallel::all_gather(at::tensor(mine, at::kLong), replica);  // [ranks, 2 * tensors]
  const auto sums = all.accessor<int64_t, 2>();
  int64_t column = 0;
  for (auto& [name, digest] : digests) {
    digest.sum = {};
    for (int64_t rank = 0; rank < replica.size(); ++rank) {
      digest.sum += {static_cast<uint64_t>(sums[rank][column]), static_cast<uint64_t>(sums[rank][column + 1])};
    }
    column += 2;
  }
  return checkpoint::state_digest(digests);
}

}  // namespace qwen3::rank
