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

// Rows whose squares are summed: runs of the last dim; the elements of a 1-D tensor.
int64_t row_size(const std::vector<int64_t>& shape) { return shape.size() == 1 ? 1 : shape.back(); }
int64_t rows_in(const spec::Box& box) { return box.empty() ? 0 : box.numel() / row_size(box.shape); }

at::Tensor rows_of(const ShardedTensor& tensor) {
  return tensor.box_of(tensor.grad).view({-1, row_size(tensor.box.shape)});
}

// The rows of the tensor that the rows of a box belong to, as runs over the tensor without its last dim.
std::vector<spec::Transfer> row_runs(const ShardedTensor& tensor, spec::Box box) {
  std::vector<int64_t> shape = tensor.layout.shape;
  if (shape.size() > 1) {
    shape.pop_back();
    box.begin.pop_back();
    box.shape.pop_back();
  }
  return spec::transfers(box, spec::whole_box(shape));
}

// Sum over all tensors in name order of their row sums in global row order. One gather for all of them. A row that
// tensor parallelism splits is added in the order of the ranks.
double ordered_square_sum(const ShardedModel& model) {
  const MeshAxis& replica = model.mesh().replica();
  const spec::Mesh& mesh = model.mesh().shape();
  const int64_t first_rank = model.mesh().rank() - replica.index();
  const auto box_on = [&](const ShardedTensor& tensor, int64_t r) {
    if (spec::owns(tensor.layout, mesh, first_rank + r)) return spec::box_of(tensor.layout, mesh, first_rank + r);
    return spec::Box{tensor.box.begin, std::vector<int64_t>(tensor.box.shape.size(), 0)};
  };
  const auto most_rows = [&](const ShardedTensor& tensor) {
    int64_t most = 0;
    for (int64_t r = 0; r < replica.size(); ++r) most = std::max(most, rows_in(box_on(tensor, r)));
    return most;
  };
  std::vector<int64_t> slots;  // by tensor
  int64_t rows = 0;
  for (const ShardedTensor* tensor : model.tensors()) rows += slots.emplace_back(most_rows(*tensor));
  const at::Tensor mine = at::zeros({rows}, at::kDouble);
  int64_t offset = 0;
  for (size_t i = 0; i < slots.size(); offset += slots[i++]) {
    const ShardedTensor& tensor = *model.tensors()[i];
    if (!tensor.owned || tensor.box.empty()) continue;
    const at::Tensor sums = row_square_sums(rows_of(tensor));
    mine.narrow(0, offset, sums.numel()).copy_(sums);
  }
  const at::Tensor all = all_gather(mine, replica);  // [ranks, rows]
  double sum = 0;
  offset = 0;
  for (size_t i = 0; i < slots.size(); offset += slots[i++]) {
    const ShardedTensor& tensor = *model.tensors()[i];
    std::vector<double> by_row(static_cast<size_t>(rows_in(spec::whole_box(tensor.layout.shape))), 0.0);
    for (int64_t r = 0; r < replica.size(); ++r) {
      const double* sums = all.const_data_ptr<double>() + r * rows + offset;
      for (const spec::Transfer& run : row_runs(tensor, box_on(tensor, r))) {
        for (int64_t k = 0; k < run.count; ++k) by_row[static_cast<size_t>(run.to + k)] += sums[run.from + k];
      }
    }
    for (const double of_row : by_row) sum += of_row;
  }
  return sum;
}

}  // namespace

at::Tensor row_square_sums(const at::Tensor& rows) {
  if (!rows.is_cpu()) return rows.to(at::kDouble).square().sum(1).to(at::kCPU);
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
      if (tensor->owned && !tensor->box.empty()) sum += sum_in_order(row_square_sums(rows_of(*tensor)));
    }
    sum = sum_in_order(all_gather(at::full({1}, sum, at::kDouble), model.mesh().replica()).view(-1));
  }
  return std::sqrt(sum);
}

}  // namespace qwen3::parallel
