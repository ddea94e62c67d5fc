#include "spec/mesh.h"

namespace qwen3::spec {

std::string_view axis_name(Axis axis) {
  static constexpr std::array<std::string_view, kAxisCount> kNames = {"pp", "dp_replicate", "dp_shard", "cp", "tp"};
  return kNames[static_cast<int>(axis)];
}

int64_t saturating_multiply(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

int64_t Mesh::world_size() const {
  int64_t size = 1;
  for (const int64_t degree : degrees) size = saturating_multiply(size, degree);
  return size;
}

int64_t Mesh::data_parallel_size() const {
  return saturating_multiply(degree(Axis::kDpReplicate), degree(Axis::kDpShard));
}

Coordinates coordinates_of(const Mesh& mesh, int64_t rank) {
  Coordinates coordinates{};
  for (int axis = kAxisCount - 1; axis >= 0; --axis) {  // the last axis is innermost: neighbouring ranks differ in it
    coordinates[axis] = rank % mesh.degrees[axis];
    rank /= mesh.degrees[axis];
  }
  return coordinates;
}

int64_t rank_of(const Mesh& mesh, const Coordinates& coordinates) {
  int64_t rank = 0;
  for (int axis = 0; axis < kAxisCount; ++axis) rank = rank * mesh.degrees[axis] + coordinates[axis];
  return rank;
}

}  // namespace qwen3::spec
