#include "worker/rank/checkpointer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <filesystem>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "checkpoint/model_json.h"
#include "checkpoint/reader.h"
#include "checkpoint/safetensors.h"
#include "worker/rank/status_error.h"
#include "worker/rank/training_state.h"

namespace qwen3::rank {
namespace {

// A copy of this rank's shards that training cannot change any more.
struct Snapshot {
  struct Item {
    std::string name;
    std::vector<int64_t> global_shape;
    spec::Box box;      // of it
    at::Tensor values;  // in the shape of the box
  };
  std::vector<Item> items;
};

// Buffers are whole on every rank, so one of them writes all of their rows and the others none.
Snapshot copy_state(const parallel::ShardedModel& model, bool with_buffers) {
  c10::NoGradGuard no_grad;
  Snapshot snapshot;
  for (const parallel::ShardedTensor* tensor : model.tensors()) {
    for (const StatePart& state : kStateParts) {
      const at::Tensor values =
          tensor->box_of(tensor->*state.flat).narrow(0, 0, tensor->owned ? tensor->box.shape[0] : 0);
      snapshot.items.push_back({state.prefix + tensor->name,
                                tensor->layout.shape,
                                {tensor->box.begin, values.sizes().vec()},
                                values.to(at::kCPU, /*non_blocking=*/false, /*copy=*/true)});
    }
  }
  for (const model::Buffer& buffer : model.buffers()) {
    const at::Tensor values = buffer.value.narrow(0, 0, with_buffers ? buffer.shape[0] : 0);
    snapshot.items.push_back({kModelPrefix + buffer.name,
                              buffer.shape,
                              {std::vector<int64_t>(buffer.shape.size(), 0), values.sizes().vec()},
                              values.to(at::kCPU, /*non_blocking=*/false, /*copy=*/true)});
  }
  return snapshot;
}

// Writes the snapshot as one file and describes it in `part`.
absl::Status write(const Snapshot& snapshot, const std::string& folder, const std::string& file,
                   checkpoint::Manifest& part) {
  std::vector<checkpoint::TensorBytes> tensors;
  for (const Snapshot::Item& item : snapshot.items) {
    checkpoint::TensorRecord& record = part.tensors[item.name];
    record.dtype = dtype_of(item.values);
    record.shape = item.global_shape;
    if (item.box.empty()) continue;
    record.slices = {{file, item.name, item.box}};
    record.digest =
        checkpoint::digest_box(bytes_of(item.values), checkpoint::item_size(record.dtype), item.box, item.global_shape);
    tensors.push_back({item.name, record.dtype, item.box.shape, bytes_of(item.values)});
  }
  const auto written = checkpoint::write_safetensors(folder + "/" + file, tensors, {{"format", "qwen3"}});
  if (!written.ok()) return written.status();
  part.files[file] = *written;
  return absl::OkStatus();
}

}  // namespace

Checkpointer::Checkpointer(const spec::RunSpec& run, const parallel::DeviceMesh& mesh, parallel::ShardedModel& model,
                           Place place, std::function<void(const internal::v1::PreparedCheckpoint&)> prepared)
    : run_(run), mesh_(mesh), model_(model), place_(std::move(place)), prepared_(std::move(prepared)) {}

Checkpointer::~Checkpointer() {
  if (writing_.valid()) writing_.wait();
}

void Checkpointer::wait() {
  if (writing_.valid()) writing_.get();
}

checkpoint::Manifest Checkpointer::own_part(const checkpoint::RunState& state) const {
  checkpoint::Manifest part;
  part.run = state;
  part.run.model_json = checkpoint::model_json(run_.model);
  part.run.spec_json = place_.spec_json;
  part.ordered = run_.ordered;
  part.mesh.assign(run_.mesh.degrees.begin(), run_.mesh.degrees.end());
  part.mesh.push_back(run_.mesh.ep);
  return part;
}

bool Checkpointer::writes_buffers() const {
  return mesh_.axis(spec::Axis::kDpReplicate).index() == 0 && mesh_.replica().index() == 0;
}

void Checkpointer::save(const checkpoint::RunState& state, bool last) {
  wait();
  // Replicas hold the same shards: the first writes, the others only say that they are at this step.
  const bool writes = mesh_.axis(spec::Axis::kDpReplicate).index() == 0;
  auto snapshot = std::make_shared<Snapshot>(writes ? copy_state(model_, writes_buffers()) : Snapshot{});
  auto work = [this, snapshot, last, part = own_part(state)]() mutable {
    const std::string folder =
        place_.folder + "/step-" + std::to_string(part.run.step) + ".attempt-" + std::to_string(place_.attempt);
    const std::string file = "rank-" + std::to_string(mesh_.rank()) + ".safetensors";
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    absl::Status status;
    if (error) status = absl::ErrnoToStatus(error.value(), "cannot make " + folder);
    if (status.ok() && !snapshot->items.empty()) status = write(*snapshot, folder, file, part);
    snapshot->items.clear();
    if (!status.ok() && last) throw StatusError("the last checkpoint could not be written", status);
    internal::v1::PreparedCheckpoint message;
    message.set_step(part.run.step);
    if (!status.ok()) {  // the other ranks' parts are of no use any more
      message.set_error(std::string(status.message()));
      return prepared_(message);
    }
    message.set_last(last);
    message.set_folder(folder);
    message.set_manifest_part(checkpoint::to_json(part));
    for (const auto& [name, record] : part.files) {
      auto* entry = message.add_files();
      entry->set_name(name);
      entry->set_size_bytes(record.size_bytes);
    }
    prepared_(message);
  };
  writing_ = std::async(std::launch::async, std::move(work));
  if (!run_.checkpoint.async || last) wait();
}

checkpoint::RunState Checkpointer::restore(const std::string& folder, const Wanted& wanted) {
  c10::NoGradGuard no_grad;
  const auto fail = [&](const std::string& what) { throw std::runtime_error("checkpoint " + folder + ": " + what); };
  // It was committed: what is not there any more was not misspelt but lost. To absl EIO is UNKNOWN.
  const auto check = [&](const absl::Status& status) {
    if (absl::IsNotFound(status) || absl::IsDataLoss(status) || absl::IsUnknown(status)) {
      throw UnreadableCheckpoint("checkpoint " + folder, status);
    }
    if (!status.ok()) throw StatusError("checkpoint " + folder, status);
  };
  auto reader = checkpoint::Reader::open(folder);
  check(reader.status());
  const checkpoint::Manifest& manifest = reader->manifest();
  const auto held = checkpoint::parse_model_json(manifest.run.model_json);
  check(held.status());
  const std::string difference = checkpoint::structural_difference(held->shape, run_.model);
  if (!difference.empty()) fail("model: " + difference);
  // `box` of tensor `name` into `values`.
  const auto read = [&](const std::string& name, const std::vector<int64_t>& shape, const spec::Box& box,
                        const at::Tensor& values, const char* advice) {
    const auto record = manifest.tensors.find(name);
    if (record == manifest.tensors.end()) fail("has no tensor " + name + advice);
    if (record->second.shape != shape) {
      fail(name + " has shape " + c10::str(record->second.shape) + ", the model wants " + c10::str(shape));
    }
    if (box.empty()) return;
    if (record->second.dtype != dtype_of(values)) fail(name + " has another dtype than the run's state");
    const at::Tensor here = values.to(at::kCPU);  // the same tensor if it is there
    check(reader->read_box(name, box, {static_cast<std::byte*>(here.mutable_data_ptr()), here.nbytes()}));
    if (!here.is_same(values)) values.copy_(here);
  };
  for (const parallel::ShardedTensor* tensor : model_.tensors()) {
    for (const StatePart& state : kStateParts) {
      if (!wanted.training_state && state.flat != &parallel::ShardedTensor::master) continue;
      read(state.prefix + tensor->name, tensor->layout.shape, tensor->box, tensor->box_of(tensor->*state.flat), "");
    }
  }
  for (const model::Buffer& buffer : model_.buffers()) {
    const bool bias = buffer.kind == model::Buffer::Kind::kReal;
    if (!(bias ? wanted.expert_bias : wanted.training_state)) continue;
    read(kModelPrefix + buffer.name, buffer.shape, spec::whole_box(buffer.shape), buffer.value,
         bias ? "; expert_bias_load = false in [moe] starts from zeros" : "");
  }
  model_.masters_changed();
  return manifest.run;
}

}  // namespace qwen3::rank
