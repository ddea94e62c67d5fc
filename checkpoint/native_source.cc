#include "checkpoint/native_source.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "checkpoint/float_conversion.h"
#include "checkpoint/hf/names.h"
#include "checkpoint/problems.h"
#include "spec/parameters.h"

namespace qwen3::checkpoint {
namespace {

constexpr std::string_view kPrefix = "model.";

std::string stored_name(std::string_view name) {
  return absl::StrCat("model.", absl::string_view(name.data(), name.size()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<NativeSource>> NativeSource::open(const std::string& folder) {
  absl::StatusOr<Reader> reader = Reader::open(folder);
  if (!reader.ok()) return reader.status();
  absl::StatusOr<ModelRecord> model = parse_model_json(reader->manifest().run.model_json);
  if (!model.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(folder, "/", kManifestName, ": ", model.status().message()));
  }
  std::unique_ptr<NativeSource> source(new NativeSource);
  source->own_ = std::make_unique<const Reader>(std::move(*reader));
  source->reader_ = source->own_.get();
  source->model_ = std::move(model->shape);
  source->origin_ = std::move(model->origin);
  if (absl::Status status = source->match(); !status.ok()) return status;
  return source;
}

absl::StatusOr<std::unique_ptr<NativeSource>> NativeSource::over(const Reader& reader, const spec::ModelShape& model) {
  std::unique_ptr<NativeSource> source(new NativeSource);
  source->reader_ = &reader;
  source->model_ = model;
  if (absl::StatusOr<ModelRecord> record = parse_model_json(reader.manifest().run.model_json); record.ok()) {
    source->origin_ = std::move(record->origin);
  }
  if (absl::Status status = source->match(); !status.ok()) return status;
  return source;
}

absl::Status NativeSource::match() {
  const auto& stored = manifest().tensors;
  Problems problems;
  std::unordered_map<std::string, bool> wanted;
  for (spec::ParameterShape& parameter : spec::parameters(model_)) {
    const std::string name = stored_name(parameter.name);
    wanted[name] = true;
    const auto found = stored.find(name);
    if (found == stored.end()) {
      problems.add("tensor \"", name, "\" is missing");
    } else if (found->second.shape != parameter.shape) {
      problems.add("tensor \"", name, "\" is [", absl::StrJoin(found->second.shape, ","), "], the model wants [",
                   absl::StrJoin(parameter.shape, ","), "]");
    } else if (!is_float(found->second.dtype)) {
      problems.add("tensor \"", name, "\" is ", dtype_name(found->second.dtype), ", want a float");
    } else {
      tensors_.push_back({std::move(parameter.name), std::move(parameter.shape), found->second.dtype});
    }
  }
  for (const auto& [name, record] : stored) {
    if (!name.starts_with(kPrefix) || wanted.contains(name)) continue;
    std::string own = name.substr(kPrefix.size());
    if (is_buffer(own) && !record.shape.empty()) {
      tensors_.push_back({std::move(own), record.shape, record.dtype, /*buffer=*/true});
    } else {
      problems.add("tensor \"", absl::CEscape(name), "\" is no parameter of the model");
    }
  }
  for (const SourceTensor& tensor : tensors_) by_name_[tensor.name] = &tensor;
  return problems.status(reader_->folder());
}

absl::Status NativeSource::read_box(std::string_view name, const spec::Box& box, std::span<std::byte> into,
                                    Dtype as) const {
  const std::string stored = stored_name(name);
  const auto found = by_name_.find(std::string(name));
  if (found == by_name_.end() || found->second->dtype == as || !spec::is_inside(box, found->second->shape)) {
    return reader_->read_box(stored, box, into);  // the reader says what is wrong
  }
  const SourceTensor& tensor = *found->second;
  if (!is_float(tensor.dtype) || !is_float(as)) {
    return absl::InvalidArgumentError(absl::StrCat(reader_->folder(), ": tensor \"", stored, "\" is ",
                                                   dtype_name(tensor.dtype), ", asked for ", dtype_name(as)));
  }
  if (static_cast<int64_t>(into.size()) != box.numel() * item_size(as)) {
    return absl::InvalidArgumentError(
        absl::StrCat(reader_->folder(), ": tensor \"", stored, "\": got room for ", into.size(), " bytes"));
  }
  std::vector<std::byte> bits(static_cast<size_t>(box.numel() * item_size(tensor.dtype)));
  if (absl::Status status = reader_->read_box(stored, box, bits); !status.ok()) return status;
  convert_values(bits, tensor.dtype, into, as);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<TensorSource>> open_native_source(const std::string& folder) {
  return NativeSource::open(folder);
}

}  // namespace qwen3::checkpoint
