#include "parallel/grad_norm.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <cmath>

namespace qwen3::parallel {
namespace {

constexpr int kLanes = 8;  // independent partial sums: vectorisable, and an order that never changes

template <typename T>
double square_sum(const T* x, int64_t n) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) lanes[l] += static_cast<double>(x[i + l]) * static_cast<double>(x[i + l]);
  }
  for (; i < n; ++i) lanes[i % kLanes] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

double sum_in_order(const at::Tensor& values) {
  const double* v = values.const_data_ptr<double>();
  double sum = 0;
  for (int64_t i = 0; i < values.numel(); ++i) sum += v[i];
  return sum;
}

// Rows whose squares are summed: runs of the last dim, a shard's row (an expert's matrix) may hold many; the elements
// of a 1-D tensor.
int64_t norm_row_size(const ShardedTensor& tensor) { return tensor.shape.size() == 1 ? 1 : tensor.shape.back(); }

at::Tensor norm_rows(const ShardedTensor& tensor) {
  return tensor.rows_of(tensor.grad).view({-1, norm_row_size(tensor)});
}

int64_t most_rows(const ShardedTensor& tensor, const MeshAxis& shard) {
  return spec::shard_rows(tensor.shape[0], shard.size(), 0).size() * (tensor.row_size / norm_row_size(tensor));
}

// Sum over all tensors in name order of their row sums in global row order. One gather for all of them.
double ordered_square_sum(const ShardedModel& model) {
  const MeshAxis& shard = model.shard_axis();
  int64_t rows = 0;
  for (const ShardedTensor* tensor : model.tensors()) rows += most_rows(*tensor, shard);
  const at::Tensor mine = at::zeros({rows}, at::kDouble);
  int64_t offset = 0;
  for (const ShardedTensor* tensor : model.tensors()) {
    if (tensor->rows.size() > 0) {
      const at::Tensor sums = row_square_sums(norm_rows(*tensor));
      mine.narrow(0, offset, sums.numel()).copy_(sums);
    }
    offset += most_rows(*tensor, shard);
  }
  const at::Tensor all = all_gather(mine, shard);  // [ranks, rows]
  double sum = 0;
  offset = 0;
  for (const ShardedTensor* tensor : model.tensors()) {
    const int64_t most = most_rows(*tensor, shard);
    // By rank is by global row; the last ranks' padding is zeros, which change no sum of squares.
    sum += sum_in_order(all.narrow(1, offset, most).reshape({-1}));
    offset += most;
  }
  return sum;
}

}  // namespace

at::Tensor row_square_sums(const at::Tensor& rows) {
  const int64_t count = rows.size(0), n = rows.size(1);
  at::Tensor sums = at::empty({count}, at::kDouble);
  double* out = sums.mutable_data_ptr<double>();
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, n));
  AT_DISPATCH_FLOATING_TYPES(rows.scalar_type(), "row_square_sums", [&] {
    const scalar_t* data = rows.const_data_ptr<scalar_t>();
    at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) out[r] = square_sum(data + r * n, n);
    });
  });
  return sums;
}

double grad_norm(const ShardedModel& model, bool ordered) {
  double sum = 0;
  if (ordered) {
    sum = ordered_square_sum(model);
  } else {
    for (const ShardedTensor* tensor : model.tensors()) {
      if (tensor->rows.size() > 0) sum += sum_in_order(row_square_sums(norm_rows(*tensor)));
    }
    sum = sum_in_order(all_gather(at::full({1}, sum, at::kDouble), model.shard_axis()).view(-1));
  }
  return std::sqrt(sum);
}

}  // namespace qwen3::parallel
