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

int64_t Mesh::efsdp() const { return degree(Axis::kDpShard) * degree(Axis::kCp) * degree(Axis::kTp) / ep; }

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

std::vector<int64_t> ranks_along(const Mesh& mesh, int64_t rank, Axis axis) {
  Coordinates coordinates = coordinates_of(mesh, rank);
  std::vector<int64_t> ranks;
  for (int64_t i = 0; i < mesh.degree(axis); ++i) {
    coordinates[static_cast<int>(axis)] = i;
    ranks.push_back(rank_of(mesh, coordinates));
  }
  return ranks;
}

std::vector<int64_t> ranks_of_replica(const Mesh& mesh, int64_t rank) {
  const int64_t size = mesh.efsdp() * mesh.ep, first = rank / size * size;  // the three axes are the innermost
  std::vector<int64_t> ranks;
  for (int64_t i = 0; i < size; ++i) ranks.push_back(first + i);
  return ranks;
}

std::vector<int64_t> ranks_along_ep(const Mesh& mesh, int64_t rank) {
  std::vector<int64_t> ranks;
  for (const int64_t other : ranks_of_replica(mesh, rank)) {
    if (other / mesh.ep == rank / mesh.ep) ranks.push_back(other);
  }
  return ranks;
}

std::vector<int64_t> ranks_along_efsdp(const Mesh& mesh, int64_t rank) {
  std::vector<int64_t> ranks;
  for (const int64_t other : ranks_of_replica(mesh, rank)) {
    if (other % mesh.ep == rank % mesh.ep) ranks.push_back(other);
  }
  return ranks;
}

}  // namespace qwen3::spec
