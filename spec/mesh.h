// The device mesh: axes pp, dp_replicate, dp_shard, cp, tp, outermost first; tp is innermost, so that its ranks sit in
// one host. Same order as torchtitan's ParallelDims.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace qwen3::spec {

enum class Axis { kPp, kDpReplicate, kDpShard, kCp, kTp };
inline constexpr int kAxisCount = 5;
std::string_view axis_name(Axis axis);  // "pp", "dp_replicate", "dp_shard", "cp", "tp"

// a * b for a, b >= 0; INT64_MAX if it does not fit, so that absurd sizes are reported and not wrapped around.
int64_t saturating_multiply(int64_t a, int64_t b);

// Degrees of all axes; a plain value. The experts have a mesh of their own over the same ranks: the ranks of dp_shard,
// cp and tp, flattened, are cut into runs of `ep` neighbours. Ranks at the same place of their runs form the axis
// "efsdp", over which the experts of that place are sharded.
struct Mesh {
  std::array<int64_t, kAxisCount> degrees = {1, 1, 1, 1, 1};  // in the order of Axis
  int64_t ep = 1;                                             // divides dp_shard * cp * tp

  int64_t degree(Axis axis) const { return degrees[static_cast<int>(axis)]; }
  // Product of all degrees, which are at least 1; INT64_MAX if it does not fit.
  int64_t world_size() const;
  // Data-parallel ranks: dp_replicate * dp_shard.
  int64_t data_parallel_size() const;
  // dp_shard * cp * tp / ep: ranks that share the experts of one place of ep.
  int64_t efsdp() const;
};

// Position of a rank on each axis, in the order of Axis.
using Coordinates = std::array<int64_t, kAxisCount>;
Coordinates coordinates_of(const Mesh& mesh, int64_t rank);
int64_t rank_of(const Mesh& mesh, const Coordinates& coordinates);

// Ranks that differ from `rank` only in the given way, in the order of their numbers; `rank` is one of them.
std::vector<int64_t> ranks_along(const Mesh& mesh, int64_t rank, Axis axis);
std::vector<int64_t> ranks_along_ep(const Mesh& mesh, int64_t rank);
std::vector<int64_t> ranks_along_efsdp(const Mesh& mesh, int64_t rank);
// All of one replica and pipeline stage: dp_shard * cp * tp = efsdp * ep ranks.
std::vector<int64_t> ranks_of_replica(const Mesh& mesh, int64_t rank);

}  // namespace qwen3::spec
