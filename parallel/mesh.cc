#include "parallel/mesh.h"

#include <stdexcept>

namespace qwen3::parallel {
namespace {

MeshAxis make_world(const spec::Mesh& mesh, int64_t rank, Rendezvous* rendezvous, const GroupOptions& options) {
  const int64_t size = mesh.world_size();
  if (size == 1) return MeshAxis("world", 0, 1, nullptr);
  if (rendezvous == nullptr) throw std::invalid_argument("a mesh of several ranks needs a rendezvous");
  return MeshAxis("world", rank, size, make_group(*rendezvous, "world", rank, size, options));
}

}  // namespace

DeviceMesh::DeviceMesh(const spec::Mesh& mesh, int64_t rank, Rendezvous* rendezvous, const GroupOptions& options)
    : shape_(mesh), rank_(rank), world_(make_world(mesh, rank, rendezvous, options)) {
  const spec::Coordinates here = spec::coordinates_of(mesh, rank);
  for (int a = 0; a < spec::kAxisCount; ++a) {
    const auto axis = static_cast<spec::Axis>(a);
    const std::string name(spec::axis_name(axis));
    const int64_t size = mesh.degree(axis);
    if (size == 1) {
      axes_.emplace_back(name, 0, 1, nullptr);
    } else if (size == mesh.world_size()) {
      axes_.emplace_back(name, here[a], size, world_.group_handle());
    } else {
      spec::Coordinates first = here;
      first[a] = 0;  // the group is named after its first member
      const std::string group = name + "/" + std::to_string(spec::rank_of(mesh, first));
      axes_.emplace_back(name, here[a], size, make_group(*rendezvous, group, here[a], size, options));
    }
  }
}

}  // namespace qwen3::parallel
