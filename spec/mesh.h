// The device mesh: axes pp, dp_replicate, dp_shard, cp, tp, outermost first; tp is innermost, so that its ranks sit in
// one host. Same order as torchtitan's ParallelDims.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace qwen3::spec {

enum class Axis { kPp, kDpReplicate, kDpShard, kCp, kTp };
inline constexpr int kAxisCount = 5;
std::string_view axis_name(Axis axis);  // "pp", "dp_replicate", "dp_shard", "cp", "tp"

// a * b for a, b >= 0; INT64_MAX if it does not fit, so that absurd sizes are reported and not wrapped around.
int64_t saturating_multiply(int64_t a, int64_t b);

// Degrees of all axes; a plain value.
struct Mesh {
  std::array<int64_t, kAxisCount> degrees = {1, 1, 1, 1, 1};  // in the order of Axis

  int64_t degree(Axis axis) const { return degrees[static_cast<int>(axis)]; }
  // Product of all degrees, which are at least 1; INT64_MAX if it does not fit.
  int64_t world_size() const;
  // Data-parallel ranks: dp_replicate * dp_shard.
  int64_t data_parallel_size() const;
};

// Position of a rank on each axis, in the order of Axis.
using Coordinates = std::array<int64_t, kAxisCount>;
Coordinates coordinates_of(const Mesh& mesh, int64_t rank);
int64_t rank_of(const Mesh& mesh, const Coordinates& coordinates);

}  // namespace qwen3::spec
