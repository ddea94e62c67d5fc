#include "spec/layout.h"

#include <algorithm>
#include <array>
#include <span>

namespace qwen3::spec {
namespace {

int64_t product(const std::vector<int64_t>& sizes, size_t first) {
  int64_t n = 1;
  for (size_t d = first; d < sizes.size(); ++d) n *= sizes[d];
  return n;
}

void apply(const Cut& cut, const Mesh& mesh, int64_t rank, Box& box) {
  const auto dim = static_cast<size_t>(cut.dim);
  const RowRange run = shard_rows(box.shape[dim], degree_of(mesh, cut.axis), index_on(mesh, rank, cut.axis));
  box.begin[dim] += run.begin;
  box.shape[dim] = run.size();
}

bool is_cut(const Layout& layout, LayoutAxis axis) {
  return layout.shard.axis == axis || std::any_of(layout.model_cuts.begin(), layout.model_cuts.end(),
                                                  [&](const Cut& cut) { return cut.axis == axis; });
}

}  // namespace

RowRange shard_rows(int64_t rows, int64_t degree, int64_t index) {
  const int64_t run = (rows + degree - 1) / degree;
  const int64_t begin = std::min(rows, index * run);
  return {begin, std::min(rows, begin + run)};
}

int64_t Box::numel() const { return product(shape, 0); }

Box whole_box(const std::vector<int64_t>& shape) { return {std::vector<int64_t>(shape.size(), 0), shape}; }

bool is_inside(const Box& box, const std::vector<int64_t>& shape) {
  if (box.begin.size() != shape.size() || box.shape.size() != shape.size()) return false;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (box.begin[d] < 0 || box.shape[d] < 0 || box.shape[d] > shape[d] || box.begin[d] > shape[d] - box.shape[d]) {
      return false;
    }
  }
  return true;
}

Box intersection(const Box& a, const Box& b) {
  Box common = a;
  for (size_t d = 0; d < a.begin.size(); ++d) {
    const int64_t end = std::min(a.begin[d] + a.shape[d], b.begin[d] + b.shape[d]);
    common.begin[d] = std::max(a.begin[d], b.begin[d]);
    common.shape[d] = std::max<int64_t>(0, end - common.begin[d]);
  }
  return common;
}

std::vector<Transfer> transfers(const Box& from, const Box& to) {
  const Box common = intersection(from, to);
  if (common.empty()) return {};
  const size_t dims = common.shape.size();
  size_t inner = dims;  // dims from here on are whole in both: one run holds them, and what there is of the dim before
  while (inner > 0 && common.shape[inner - 1] == from.shape[inner - 1] &&
         common.shape[inner - 1] == to.shape[inner - 1]) {
    --inner;
  }
  const size_t outer = inner == 0 ? 0 : inner - 1;  // dims before this one are counted through
  std::vector<int64_t> at = common.begin;
  const auto flat = [&](const Box& box) {
    int64_t index = 0;
    for (size_t d = 0; d < dims; ++d) index = index * box.shape[d] + at[d] - box.begin[d];
    return index;
  };
  const int64_t count = product(common.shape, outer);
  std::vector<Transfer> runs;
  for (int64_t i = common.numel() / count; i > 0; --i) {
    runs.push_back({flat(from), flat(to), count});
    for (size_t d = outer; d-- > 0;) {
      if (++at[d] < common.begin[d] + common.shape[d]) break;
      at[d] = common.begin[d];
    }
  }
  return runs;
}

int64_t degree_of(const Mesh& mesh, LayoutAxis axis) {
  switch (axis) {
    case LayoutAxis::kReplicate:
      return mesh.degree(Axis::kDpReplicate);
    case LayoutAxis::kFsdp:
      return mesh.degree(Axis::kDpShard);
    case LayoutAxis::kEfsdp:
      return mesh.efsdp();
    case LayoutAxis::kEp:
      return mesh.ep;
    case LayoutAxis::kCp:
      return mesh.degree(Axis::kCp);
    case LayoutAxis::kTp:
      return mesh.degree(Axis::kTp);
  }
  return 1;
}

int64_t index_on(const Mesh& mesh, int64_t rank, LayoutAxis axis) {
  const Coordinates here = coordinates_of(mesh, rank);
  switch (axis) {
    case LayoutAxis::kReplicate:
      return here[static_cast<int>(Axis::kDpReplicate)];
    case LayoutAxis::kFsdp:
      return here[static_cast<int>(Axis::kDpShard)];
    case LayoutAxis::kEfsdp:
      return rank % (mesh.efsdp() * mesh.ep) / mesh.ep;
    case LayoutAxis::kEp:
      return rank % mesh.ep;
    case LayoutAxis::kCp:
      return here[static_cast<int>(Axis::kCp)];
    case LayoutAxis::kTp:
      return here[static_cast<int>(Axis::kTp)];
  }
  return 0;
}

Box piece_of(const Layout& layout, const Mesh& mesh, int64_t rank) {
  Box box = whole_box(layout.shape);
  for (const Cut& cut : layout.model_cuts) apply(cut, mesh, rank, box);
  return box;
}

Box box_of(const Layout& layout, const Mesh& mesh, int64_t rank) {
  Box box = piece_of(layout, mesh, rank);
  apply(layout.shard, mesh, rank, box);
  return box;
}

bool owns(const Layout& layout, const Mesh& mesh, int64_t rank) {
  // All axes of a replica, and those of the experts' own mesh over the same ranks: a tensor that is not cut along one
  // has copies there, of which the first counts.
  static constexpr std::array kAxes = {LayoutAxis::kFsdp, LayoutAxis::kCp, LayoutAxis::kTp};
  static constexpr std::array kAxesOfExperts = {LayoutAxis::kEfsdp, LayoutAxis::kEp};
  const bool own_mesh = layout.shard.axis == LayoutAxis::kEfsdp;
  const auto axes = own_mesh ? std::span<const LayoutAxis>(kAxesOfExperts) : std::span<const LayoutAxis>(kAxes);
  return std::all_of(axes.begin(), axes.end(),
                     [&](LayoutAxis axis) { return is_cut(layout, axis) || index_on(mesh, rank, axis) == 0; });
}

Layout layout_of(std::string_view name, const std::vector<int64_t>& shape, const Mesh& mesh, bool sequence_parallel) {
  const auto ends = [&](auto... suffix) { return (name.ends_with(suffix) || ...); };
  Layout layout{.shape = shape};
  if (ends("moe.experts.w1", "moe.experts.w2", "moe.experts.w3")) {
    if (mesh.ep > 1) {
      layout.model_cuts = {{LayoutAxis::kEp, 0}};
      layout.shard.axis = LayoutAxis::kEfsdp;
    } else {
      layout.model_cuts = {{LayoutAxis::kTp, ends("w2") ? 2 : 1}};
    }
    // Fewer experts than ranks: each expert's matrices are cut instead, along their rows.
    const int64_t experts_here = piece_of(layout, mesh, 0).shape[0];
    layout.shard.dim = experts_here < degree_of(mesh, layout.shard.axis) ? 1 : 0;
  } else if (ends("attention.wq.weight", "attention.wk.weight", "attention.wv.weight", "feed_forward.w1.weight",
                  "feed_forward.w3.weight", "tok_embeddings.weight", "lm_head.weight")) {
    layout.model_cuts = {{LayoutAxis::kTp, 0}};
  } else if (ends("attention.wo.weight", "feed_forward.w2.weight")) {
    layout.model_cuts = {{LayoutAxis::kTp, 1}};
  } else {  // norms and routers; the norms of q and k see the heads of their rank only
    layout.partial_over_tp = sequence_parallel || ends("q_norm.weight", "k_norm.weight");
  }
  return layout;
}

int64_t global_microbatch(int64_t replicate, int64_t shard, int64_t k, int64_t microbatches_per_rank,
                          int64_t shard_degree, bool reduce_once) {
  return replicate * (microbatches_per_rank * shard_degree) +
         (reduce_once ? shard * microbatches_per_rank + k : k * shard_degree + shard);
}

}  // namespace qwen3::spec
