#include "spec/units.h"

#include <algorithm>

#include "spec/parameters.h"

namespace qwen3::spec {
namespace {

template <typename Size>
int64_t sum_over(const std::vector<TensorSize>& tensors, Size&& size) {
  int64_t sum = 0;
  for (const TensorSize& tensor : tensors) sum += size(tensor);
  return sum;
}

}  // namespace

int64_t padded(int64_t elements) { return (elements + kSlotMultiple - 1) / kSlotMultiple * kSlotMultiple; }

int64_t slot_size(const Layout& layout, const Mesh& mesh, int64_t rank) {
  Box largest = piece_of(layout, mesh, rank);  // the first shard of it
  int64_t& rows = largest.shape[static_cast<size_t>(layout.shard.dim)];
  rows = shard_rows(rows, degree_of(mesh, layout.shard.axis), 0).size();
  return padded(largest.numel());
}

int64_t compute_bytes(const RunSpec& run) {
  switch (run.precision) {
    case Precision::kBfloat16:
      return 2;
    case Precision::kFloat32:
      return 4;
    case Precision::kFloat64:
      return 8;
  }
  return 8;
}

int64_t state_bytes(const RunSpec& run) { return std::max<int64_t>(4, compute_bytes(run)); }

int64_t travel_bytes(const RunSpec& run) { return run.reduce_in_bfloat16 ? 2 : state_bytes(run); }

int64_t UnitSize::shard() const {
  return sum_over(tensors, [](const TensorSize& tensor) { return tensor.slot; });
}

int64_t UnitSize::whole() const {
  return sum_over(tensors, [](const TensorSize& tensor) { return padded(tensor.piece); });
}

int64_t UnitSize::exchanged() const {
  return sum_over(tensors, [](const TensorSize& tensor) { return tensor.uses * tensor.slot; });
}

int64_t UnitSize::gradients() const {
  return sum_over(tensors, [](const TensorSize& tensor) { return tensor.uses * tensor.piece; });
}

std::vector<UnitSize> unit_sizes(const RunSpec& run) {
  std::vector<UnitSize> units;
  const auto unit_of = [&](int64_t layer, LayoutAxis axis) -> UnitSize& {
    const auto found = std::find_if(units.begin(), units.end(),
                                    [&](const UnitSize& unit) { return unit.layer == layer && unit.axis == axis; });
    if (found != units.end()) return *found;
    return units.emplace_back(UnitSize{layer, axis, degree_of(run.mesh, axis), {}});
  };
  for (const ParameterShape& parameter : parameters(run.model)) {
    const Layout layout = layout_of(parameter.name, parameter.shape, run.mesh, run.sequence_parallel);
    const bool in_first = run.model.tied && parameter.layer == run.model.layers + 1;
    UnitSize& unit = unit_of(in_first ? 0 : parameter.layer, layout.shard.axis);
    const bool is_tied = run.model.tied && parameter.layer == 0;
    unit.tensors.push_back({parameter.name, piece_of(layout, run.mesh, 0).numel(), slot_size(layout, run.mesh, 0),
                            is_tied ? 2 : 1, layout.partial_over_tp});
  }
  return units;
}

}  // namespace qwen3::spec
