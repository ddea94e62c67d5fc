// How global tensors lie over the mesh: pure index arithmetic. Initial values, gradient sums, norms, checkpoint slices
// and their reading are all derived from this.
//
// A cut divides what it is applied to along one dim into `degree` runs of ceil(size / degree); the last runs may be
// shorter or empty. Cuts nest: the second divides what the first left. So what a rank holds is always one box.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "spec/mesh.h"

namespace qwen3::spec {

// Half-open range of indices of one dim.
struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

// Indices that position `index` of an axis of `degree` ranks holds. REQUIRES: 0 <= index < degree, rows >= 0.
RowRange shard_rows(int64_t rows, int64_t degree, int64_t index);

// The elements of a tensor with begin[d] <= index d < begin[d] + shape[d] in every dim.
struct Box {
  std::vector<int64_t> begin;
  std::vector<int64_t> shape;

  int64_t numel() const;
  bool empty() const { return numel() == 0; }
  bool operator==(const Box&) const = default;
};
Box whole_box(const std::vector<int64_t>& shape);
// Whether `box`, which may be anything, is a box of a tensor of `shape`.
bool is_inside(const Box& box, const std::vector<int64_t>& shape);
// REQUIRES: of one tensor. Empty when they have nothing in common.
Box intersection(const Box& a, const Box& b);

// What two boxes of one tensor have in common, each stored row-major, as runs that are contiguous in both: elements
// [from, from + count) of the one are [to, to + count) of the other. In order.
struct Transfer {
  int64_t from = 0;
  int64_t to = 0;
  int64_t count = 0;
  bool operator==(const Transfer&) const = default;
};
std::vector<Transfer> transfers(const Box& from, const Box& to);

// Axes along which tensors are cut, summed or copied. kFsdp is dp_shard; kEp and kEfsdp are the experts' (spec/mesh.h),
// which take the place of kFsdp, kCp and kTp for what is cut along them.
enum class LayoutAxis { kReplicate, kFsdp, kEfsdp, kEp, kCp, kTp };
int64_t degree_of(const Mesh& mesh, LayoutAxis axis);
int64_t index_on(const Mesh& mesh, int64_t rank, LayoutAxis axis);

struct Cut {
  LayoutAxis axis;
  int dim;
  bool operator==(const Cut&) const = default;
};

// Of a parameter, its moments and its gradient. On an axis that no cut names they are replicated.
struct Layout {
  std::vector<int64_t> shape;        // global
  std::vector<Cut> model_cuts = {};  // of what forward reads on a rank: by tensor or expert parallelism
  Cut shard{LayoutAxis::kFsdp, 0};   // then, of what a rank keeps between uses
  // Every tp rank's gradient is a summand of the whole (a partial placement); otherwise each has the whole.
  bool partial_over_tp = false;
};

// What rank `rank` reads in forward: the model's cuts applied, the shard not.
Box piece_of(const Layout& layout, const Mesh& mesh, int64_t rank);
// What it keeps: its shard of that.
Box box_of(const Layout& layout, const Mesh& mesh, int64_t rank);
// Whether it is, of the ranks of one replica that keep the same box, the one that counts it in the norm and writes it.
bool owns(const Layout& layout, const Mesh& mesh, int64_t rank);

// The layout of parameter `name` ("layers.3.attention.wq.weight") of global `shape`. Sources: Megatron-LM
// (arXiv:1909.08053, section 3) for the columns and rows, Korthikanti et al. 2022 (arXiv:2205.05198, section 4.2.2) for
// norms on sequence shards, torchtitan (distributed/fsdp.py) for experts over their own mesh.
Layout layout_of(std::string_view name, const std::vector<int64_t>& shape, const Mesh& mesh,
                 bool sequence_parallel = true);

// Which microbatch of the step (global index m) a data-parallel rank runs as its k-th of K. The replicate axis adds
// once per step, the shard axis (of S ranks) after every microbatch or, with `reduce_once`, once per step as well; so
// the ranks of either always add aligned subtrees of the binary tree over m: m = replicate * (K * S) + k * S + shard,
// or replicate * (K * S) + shard * K + k.
int64_t global_microbatch(int64_t replicate, int64_t shard, int64_t k, int64_t microbatches_per_rank,
                          int64_t shard_degree, bool reduce_once = false);

}  // namespace qwen3::spec
