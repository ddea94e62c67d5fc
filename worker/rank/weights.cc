#include "worker/rank/weights.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <span>
#include <stdexcept>
#include <string>

namespace qwen3::rank {
namespace {

constexpr int64_t kPieceBytes = 16 << 20;  // of rows that are widened at once

std::span<std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.mutable_data_ptr()), tensor.nbytes()};
}

// `box` of the source's tensor into `values`, in pieces of whole first-dim rows of the box where they must be widened.
absl::Status read(const checkpoint::TensorSource& source, const checkpoint::SourceTensor& tensor, const spec::Box& box,
                  const at::Tensor& values) {
  using checkpoint::Dtype;
  const auto read_into = [&](const spec::Box& part, const at::Tensor& into, Dtype as) {
    const at::Tensor here = into.to(at::kCPU);  // the same tensor if it is there
    const absl::Status status = source.read_box(tensor.name, part, bytes_of(here), as);
    if (status.ok() && !here.is_same(into)) into.copy_(here);
    return status;
  };
  if (values.scalar_type() == at::kFloat) return read_into(box, values, Dtype::kFloat32);
  if (values.scalar_type() == at::kBFloat16) return read_into(box, values, Dtype::kBfloat16);
  if (tensor.dtype == Dtype::kFloat64) return read_into(box, values, Dtype::kFloat64);
  const int64_t row_bytes = std::max<int64_t>(box.numel() / box.shape[0] * 4, 1);
  const int64_t rows = std::clamp<int64_t>(kPieceBytes / row_bytes, 1, box.shape[0]);
  for (int64_t row = 0; row < box.shape[0]; row += rows) {
    spec::Box part = box;
    part.begin[0] += row;
    part.shape[0] = std::min(rows, box.shape[0] - row);
    const at::Tensor narrow = at::empty(part.shape, at::kFloat);
    if (absl::Status status = read_into(part, narrow, Dtype::kFloat32); !status.ok()) return status;
    values.narrow(0, row, part.shape[0]).copy_(narrow);
  }
  return absl::OkStatus();
}

}  // namespace

void load_weights(const checkpoint::TensorSource& source, const std::string& from, parallel::ShardedModel& model) {
  c10::NoGradGuard no_grad;
  const auto fail = [&](const std::string& what) { throw std::runtime_error("weights of " + from + ": " + what); };
  for (const parallel::ShardedTensor* tensor : model.tensors()) {
    const checkpoint::SourceTensor* found = source.find(tensor->name);
    if (found == nullptr) fail("there is no tensor " + tensor->name);
    if (found->shape != tensor->layout.shape) {
      fail(tensor->name + " has shape " + c10::str(found->shape) + ", the model wants " +
           c10::str(tensor->layout.shape));
    }
    if (tensor->box.empty()) continue;
    const absl::Status status = read(source, *found, tensor->box, tensor->box_of(tensor->master));
    if (!status.ok()) fail(std::string(status.message()));
  }
  for (model::Buffer& buffer : model.buffers()) {
    const checkpoint::SourceTensor* found = source.find(buffer.name);
    if (buffer.kind != model::Buffer::Kind::kReal || found == nullptr) continue;
    if (found->shape != buffer.shape) {
      fail(buffer.name + " has shape " + c10::str(found->shape) + ", the model wants " + c10::str(buffer.shape));
    }
    const absl::Status status = read(source, *found, spec::whole_box(buffer.shape), buffer.value);
    if (!status.ok()) fail(std::string(status.message()));
  }
  model.masters_changed();
}

}  // namespace qwen3::rank
