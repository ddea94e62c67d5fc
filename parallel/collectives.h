// Collectives over one axis of the device mesh; no other file calls a process group.
// Every rank of the axis must make the same calls in the same order, or all of them hang.
// On an axis of size 1 nothing is sent. Throws c10::DistError when a peer is lost, whatever the back end threw; the
// message names the rank's oldest unfinished collective. An error of the rank's own is no c10::DistError: arguments
// that do not fit are another c10::Error, lack of memory is c10::OutOfMemoryError or std::bad_alloc. Tensors on CPU
// travel over Gloo, those on a GPU over NCCL. Each collective is noted in the rank's instruments. None of them adds:
// sums are made locally in a fixed order from what all_to_all and all_gather bring, because Gloo's all-reduce does not
// add in rank order and is no faster (design 6, ordered sum).
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "parallel/mesh.h"

namespace qwen3::parallel {

// A collective under way. Its tensors stay alive until wait() has returned.
class Pending {
 public:
  Pending() = default;
  explicit Pending(std::function<void()> wait) : wait_(std::move(wait)) {}
  void wait() {
    if (wait_) std::exchange(wait_, nullptr)();
  }

 private:
  std::function<void()> wait_;
};

// output [size, n] = every rank's input [n], by rank. Both contiguous, same dtype.
Pending start_all_gather(const at::Tensor& output, const at::Tensor& input, const MeshAxis& axis);

// output [size, n]: row r is rank r's input[this rank]; input [size, n]. Both contiguous, same dtype.
Pending start_all_to_all(const at::Tensor& output, const at::Tensor& input, const MeshAxis& axis);

// Uneven: input holds send[r] rows for each rank r, one after the other, and output receives receive[r] rows from each.
// Rows are slices along dim 0 of one size on all ranks; any number of them, also none. Both contiguous, same dtype.
Pending start_all_to_all(const at::Tensor& output, const at::Tensor& input, std::vector<int64_t> receive,
                         std::vector<int64_t> send, const MeshAxis& axis);

// output [size, ...], by rank, is every rank's input [...] on rank `root`; elsewhere nothing is written and it may be
// undefined. Both contiguous, same dtype.
Pending start_gather(const at::Tensor& output, const at::Tensor& input, int64_t root, const MeshAxis& axis);

// x becomes rank `root`'s x. Contiguous.
Pending start_broadcast(const at::Tensor& x, int64_t root, const MeshAxis& axis);

// x: any shape -> [size, ...], by rank.
at::Tensor all_gather(const at::Tensor& x, const MeshAxis& axis);

// x: any shape -> every rank's x behind each other along `dim`, by rank.
at::Tensor all_gather(const at::Tensor& x, int64_t dim, const MeshAxis& axis);

// The same where `total` along `dim` is cut as spec::shard_rows does, so that the last pieces may be shorter, or empty:
// they travel padded.
at::Tensor all_gather_uneven(const at::Tensor& piece, int64_t dim, int64_t total, const MeshAxis& axis);

// Sums over the axis, added here as a tree in rank order (tree_sum_), in float32 or wider whatever the dtype, and
// rounded once; integers exactly. So all ranks hold the same bits. The result has the dtype of x, and storage of its
// own unless it is x.

// rows [size, ...], by rank -> [...]. rows may be overwritten.
at::Tensor sum_of_ranks(const at::Tensor& rows);

// x: any shape, the same on all ranks -> this rank's piece of the sum; `dim` is cut into one equal piece for each rank.
// Throws c10::ValueError if the size of the axis does not divide it.
at::Tensor reduce_scatter_sum(const at::Tensor& x, int64_t dim, const MeshAxis& axis);

// x: any shape, the same on all ranks -> the whole sum.
at::Tensor all_reduce_sum(const at::Tensor& x, const MeshAxis& axis);

// Integers, exactly: element-wise sum over the axis.
std::vector<int64_t> all_reduce_sum(const std::vector<int64_t>& values, const MeshAxis& axis);

}  // namespace qwen3::parallel
