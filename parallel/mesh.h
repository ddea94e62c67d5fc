// The device mesh of this rank: for each axis the group of ranks that differ only on it.
#pragma once
#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "parallel/instruments.h"
#include "parallel/process_group.h"
#include "spec/mesh.h"

namespace qwen3::parallel {

// One axis as this rank sees it. An axis of size 1 has no group; collectives over it return their input.
class MeshAxis {
 public:
  MeshAxis() = default;
  // `instruments` are those of the rank, which come to know the axis; null: nothing is noted.
  MeshAxis(std::string name, int64_t index, int64_t size, std::shared_ptr<ProcessGroup> group,
           std::shared_ptr<Instruments> instruments = nullptr);
  const std::string& name() const { return name_; }
  int64_t index() const { return index_; }  // of this rank on the axis
  int64_t size() const { return size_; }
  ProcessGroup& group() const { return *group_; }
  const std::shared_ptr<ProcessGroup>& group_handle() const { return group_; }
  Instruments* instruments() const { return instruments_.get(); }
  size_t number() const { return number_; }  // of this axis in the instruments

 private:
  std::string name_;
  int64_t index_ = 0;
  int64_t size_ = 1;
  std::shared_ptr<ProcessGroup> group_;
  std::shared_ptr<Instruments> instruments_;
  size_t number_ = 0;
};

class DeviceMesh {
 public:
  // Makes every group; every rank of the world must call this at the same time, since each is made by all its members
  // in one fixed order. `rendezvous` may be null when the world has one rank.
  DeviceMesh(const spec::Mesh& mesh, int64_t rank, Rendezvous* rendezvous, const GroupOptions& options = {});

  const spec::Mesh& shape() const { return shape_; }
  int64_t rank() const { return rank_; }
  // Where this rank's shards and activations are: the current GPU of the calling thread, or the CPU.
  c10::Device device() const { return device_; }
  const MeshAxis& axis(spec::Axis axis) const { return axes_[static_cast<size_t>(axis)]; }
  const MeshAxis& world() const { return world_; }
  const MeshAxis& ep() const { return ep_; }
  const MeshAxis& efsdp() const { return efsdp_; }
  const MeshAxis& replica() const { return replica_; }  // spec::ranks_of_replica
  Instruments& instruments() const { return *instruments_; }

 private:
  spec::Mesh shape_;
  int64_t rank_;
  c10::Device device_;
  std::shared_ptr<Instruments> instruments_ = std::make_shared<Instruments>();
  MeshAxis world_;
  std::vector<MeshAxis> axes_;
  MeshAxis ep_, efsdp_, replica_;
};

}  // namespace qwen3::parallel
