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

// Rows [first, first + rows.size(0)) of the source's tensor into `rows`.
absl::Status read(const checkpoint::TensorSource& source, const checkpoint::SourceTensor& tensor, int64_t first,
                  const at::Tensor& rows) {
  using checkpoint::Dtype;
  if (rows.scalar_type() == at::kFloat) {
    return source.read_rows(tensor.name, first, rows.size(0), bytes_of(rows), Dtype::kFloat32);
  }
  if (rows.scalar_type() == at::kBFloat16) {
    return source.read_rows(tensor.name, first, rows.size(0), bytes_of(rows), Dtype::kBfloat16);
  }
  if (tensor.dtype == Dtype::kFloat64) {
    return source.read_rows(tensor.name, first, rows.size(0), bytes_of(rows), Dtype::kFloat64);
  }
  const int64_t row_bytes = std::max<int64_t>(rows.size(1) * 4, 1);
  const int64_t piece = std::clamp<int64_t>(kPieceBytes / row_bytes, 1, rows.size(0));
  at::Tensor narrow = at::empty({piece, rows.size(1)}, at::kFloat);
  for (int64_t row = 0; row < rows.size(0); row += piece) {
    const at::Tensor part = narrow.narrow(0, 0, std::min(piece, rows.size(0) - row));
    const absl::Status status =
        source.read_rows(tensor.name, first + row, part.size(0), bytes_of(part), Dtype::kFloat32);
    if (!status.ok()) return status;
    rows.narrow(0, row, part.size(0)).copy_(part);
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
    if (found->shape != tensor->shape) {
      fail(tensor->name + " has shape " + c10::str(found->shape) + ", the model wants " + c10::str(tensor->shape));
    }
    if (tensor->rows.size() == 0) continue;
    const absl::Status status = read(source, *found, tensor->rows.begin, tensor->rows_of(tensor->master));
    if (!status.ok()) fail(std::string(status.message()));
  }
  for (model::Buffer& buffer : model.buffers()) {
    const checkpoint::SourceTensor* found = source.find(buffer.name);
    if (buffer.kind != model::Buffer::Kind::kReal || found == nullptr) continue;
    if (found->shape != buffer.shape) {
      fail(buffer.name + " has shape " + c10::str(found->shape) + ", the model wants " + c10::str(buffer.shape));
    }
    const absl::Status status = read(source, *found, 0, buffer.value.view({buffer.shape[0], -1}));
    if (!status.ok()) fail(std::string(status.message()));
  }
  model.masters_changed();
}

}  // namespace qwen3::rank
