#include "worker/rank/evaluation_output.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <filesystem>
#include <unordered_map>

#include "checkpoint/hf/names.h"
#include "parallel/collectives.h"
#include "worker/rank/status_error.h"

namespace qwen3::rank {
namespace {

void check(const absl::Status& status) {
  if (!status.ok()) throw StatusError("evaluation output", status);
}

checkpoint::Dtype dtype_of(bool wide) { return wide ? checkpoint::Dtype::kFloat64 : checkpoint::Dtype::kFloat32; }

// All ranks fail if one does, so that none waits for it in the next collective.
void agree(const absl::Status& mine, const parallel::DeviceMesh& mesh) {
  const int64_t failed = parallel::all_reduce_sum({mine.ok() ? 0 : 1}, mesh.world())[0];
  check(mine);
  // As a victim: whose fault it is says the rank that failed.
  if (failed > 0) C10_THROW_ERROR(DistBackendError, "another rank could not write its part; its own message says why");
}

}  // namespace

SharedOutput::SharedOutput(const std::string& path, const std::string& tag,
                           std::vector<checkpoint::TensorLayout> tensors, const parallel::DeviceMesh& mesh)
    : mesh_(mesh) {
  const auto take = [&](absl::StatusOr<checkpoint::SharedSafetensors> file) {
    if (!file.ok()) return file.status();
    file_.emplace(*std::move(file));
    return absl::OkStatus();
  };
  absl::Status status;
  if (mesh.rank() == 0) {
    std::error_code error;
    std::filesystem::create_directories(checkpoint::folder_of(path), error);
    status = error ? absl::ErrnoToStatus(error.value(), "cannot make the folder of " + path)
                   : take(checkpoint::SharedSafetensors::create(path, tag, tensors));
  }
  agree(status, mesh);
  if (mesh.rank() != 0) status = take(checkpoint::SharedSafetensors::open(path, tag, tensors));
  agree(status, mesh);
}

void SharedOutput::add(size_t index, int64_t first, const at::Tensor& values) const {
  const at::Tensor here = values.to(at::kCPU);
  check(file_->write(index, first * here.element_size(),
                     {static_cast<const std::byte*>(here.const_data_ptr()), here.nbytes()}));
}

void SharedOutput::commit() {
  agree(file_->sync(), mesh_);
  agree(mesh_.rank() == 0 ? file_->commit() : absl::OkStatus(), mesh_);
}

LogitsFile::LogitsFile(const std::string& path, const std::string& tag, std::vector<int64_t> shape, bool wide,
                       const parallel::DeviceMesh& mesh)
    : shape_(shape),
      dtype_(wide ? at::kDouble : at::kFloat),
      output_(path, tag, {{"logits", dtype_of(wide), std::move(shape)}}, mesh) {}

void LogitsFile::add(int64_t first, const at::Tensor& logits) const {
  const int64_t count = std::min(logits.size(0), shape_[0] - first);
  if (count <= 0) return;
  output_.add(0, first * shape_[1] * shape_[2], logits.narrow(0, 0, count).to(dtype_).contiguous());
}

void write_gradients(const std::string& path, const std::string& tag, const spec::ModelShape& shape, bool wide,
                     const parallel::ShardedModel& model, const parallel::DeviceMesh& mesh) {
  std::vector<checkpoint::TensorLayout> layouts;
  const std::vector<checkpoint::HfTensor> tensors = checkpoint::hf_tensors(shape);
  std::unordered_map<std::string, std::vector<size_t>> parts;  // of one of ours, by its name: indices of theirs
  for (const checkpoint::HfTensor& tensor : tensors) {
    parts[tensor.parameter].push_back(layouts.size());
    layouts.push_back({tensor.name, dtype_of(wide), tensor.shape});
  }
  SharedOutput output(path, tag, std::move(layouts), mesh);
  if (mesh.axis(spec::Axis::kDpReplicate).index() == 0) {  // replicas hold the same
    for (const parallel::ShardedTensor* tensor : model.tensors()) {
      if (!tensor->owned) continue;
      // Adding zero makes the sign of a zero positive, which depends on how many empty microbatches filled the mesh up.
      const at::Tensor values = tensor->box_of(tensor->grad).to(wide ? at::kDouble : at::kFloat).add(0.0).flatten();
      for (const size_t part : parts.at(tensor->name)) {  // several for the experts of a layer
        spec::Box theirs = spec::whole_box(tensor->layout.shape);
        theirs.begin[0] = tensors[part].row_begin;
        theirs.shape[0] = tensors[part].rows;
        for (const spec::Transfer& run : spec::transfers(tensor->box, theirs)) {
          output.add(part, run.to, values.narrow(0, run.from, run.count));
        }
      }
    }
  }
  output.commit();
}

}  // namespace qwen3::rank
