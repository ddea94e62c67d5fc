#include "parallel/mesh.h"

#include <algorithm>
#include <stdexcept>

namespace qwen3::parallel {
namespace {

MeshAxis make_world(const spec::Mesh& mesh, int64_t rank, Rendezvous* rendezvous, const GroupOptions& options,
                    std::shared_ptr<Instruments> instruments) {
  const int64_t size = mesh.world_size();
  if (size == 1) return MeshAxis("world", 0, 1, nullptr);
  if (rendezvous == nullptr) throw std::invalid_argument("a mesh of several ranks needs a rendezvous");
  return MeshAxis("world", rank, size, make_group(*rendezvous, "world", rank, size, options), std::move(instruments));
}

// The axis whose members are `ranks`, in order. Axes of the same ranks share their group.
class AxisMaker {
 public:
  AxisMaker(const MeshAxis& world, int64_t rank, Rendezvous* rendezvous, const GroupOptions& options,
            std::shared_ptr<Instruments> instruments)
      : rank_(rank), rendezvous_(rendezvous), options_(options), instruments_(std::move(instruments)) {
    std::vector<int64_t> all;
    for (int64_t r = 0; r < world.size(); ++r) all.push_back(r);
    known_.emplace_back(all, world.group_handle());
  }

  MeshAxis make(const std::string& name, const std::vector<int64_t>& ranks) {
    const auto size = static_cast<int64_t>(ranks.size());
    const int64_t index = std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin();
    if (size == 1) return MeshAxis(name, 0, 1, nullptr);
    auto group = std::find_if(known_.begin(), known_.end(), [&](const auto& known) { return known.first == ranks; });
    if (group == known_.end()) {  // named after its first member
      known_.emplace_back(ranks,
                          make_group(*rendezvous_, name + "/" + std::to_string(ranks.front()), index, size, options_));
      group = std::prev(known_.end());
    }
    return MeshAxis(name, index, size, group->second, instruments_);
  }

 private:
  int64_t rank_;
  Rendezvous* rendezvous_;
  const GroupOptions& options_;
  std::shared_ptr<Instruments> instruments_;
  std::vector<std::pair<std::vector<int64_t>, std::shared_ptr<ProcessGroup>>> known_;
};

}  // namespace

MeshAxis::MeshAxis(std::string name, int64_t index, int64_t size, std::shared_ptr<ProcessGroup> group,
                   std::shared_ptr<Instruments> instruments)
    : name_(std::move(name)),
      index_(index),
      size_(size),
      group_(std::move(group)),
      instruments_(std::move(instruments)),
      number_(instruments_ ? instruments_->add_axis(name_) : 0) {}

DeviceMesh::DeviceMesh(const spec::Mesh& mesh, int64_t rank, Rendezvous* rendezvous, const GroupOptions& options)
    : shape_(mesh),
      rank_(rank),
      device_(options.cuda ? c10::kCUDA : c10::kCPU),
      world_(make_world(mesh, rank, rendezvous, options, instruments_)) {
  AxisMaker maker(world_, rank, rendezvous, options, instruments_);
  for (int a = 0; a < spec::kAxisCount; ++a) {
    const auto axis = static_cast<spec::Axis>(a);
    axes_.push_back(maker.make(std::string(spec::axis_name(axis)), spec::ranks_along(mesh, rank, axis)));
  }
  ep_ = maker.make("ep", spec::ranks_along_ep(mesh, rank));
  efsdp_ = maker.make("efsdp", spec::ranks_along_efsdp(mesh, rank));
  replica_ = maker.make("replica", spec::ranks_of_replica(mesh, rank));
}

}  // namespace qwen3::parallel
