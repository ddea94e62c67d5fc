#include "checkpoint/convert.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "checkpoint/hf/assets.h"
#include "checkpoint/hf/export.h"
#include "checkpoint/hf/folder.h"
#include "checkpoint/hf/reader.h"
#include "checkpoint/native_source.h"
#include "checkpoint/result_folder.h"
#include "checkpoint/weights_digest.h"

namespace qwen3::checkpoint {
namespace {

namespace fs = std::filesystem;

// A source with what else is known of it.
struct Opened {
  std::unique_ptr<TensorSource> source;
  HfOrigin origin;
  std::string assets;  // Hugging Face folder with config.json and tokenizer; empty: none
  ConvertReport report;
};

int64_t bytes_of(const TensorSource& source) {
  int64_t bytes = 0;
  for (const SourceTensor& tensor : source.tensors()) bytes += tensor_bytes(tensor.dtype, tensor.shape).value();
  return bytes;
}

// The one dtype of all weights; empty: several, or one that such folders do not have.
std::string common_dtype(const TensorSource& source) {
  const auto& tensors = source.tensors();
  for (const SourceTensor& tensor : tensors) {
    if (!tensor.buffer && tensor.dtype != tensors[0].dtype) return "";
  }
  const std::string name = weights_dtype_name(tensors[0].dtype);
  return weights_dtype(name).ok() ? name : "";
}

absl::StatusOr<Opened> open(const Place& place) {
  Opened opened;
  if (place.format == Format::kHf) {
    absl::StatusOr<std::unique_ptr<HfReader>> reader = HfReader::open(place.folder);
    if (!reader.ok()) return reader.status();
    opened.origin = {common_dtype(**reader), (*reader)->tied_head()};
    opened.assets = (*reader)->folder();
    opened.report.tensors = (*reader)->stored_tensors();
    opened.source = std::move(*reader);
  } else {
    absl::StatusOr<std::unique_ptr<NativeSource>> source = NativeSource::open(place.folder);
    if (!source.ok()) return source.status();
    opened.origin = (*source)->origin();
    const std::string assets = absl::StrCat(place.folder, "/", kAssetsFolder);
    std::error_code error;
    if (fs::is_directory(fs::symlink_status(assets, error))) opened.assets = assets;
    const auto& tensors = (*source)->tensors();
    opened.report.tensors = std::count_if(tensors.begin(), tensors.end(), [](const auto& t) { return !t.buffer; });
    opened.source = std::move(*source);
  }
  opened.report.bytes = bytes_of(*opened.source);
  return opened;
}

bool same_folder(const std::string& a, const std::string& b) {
  std::error_code error;
  return fs::equivalent(a, b, error) && !error;
}

std::vector<PumpItem> all_rows(const TensorSource& source) {
  std::vector<PumpItem> items;
  for (const SourceTensor& tensor : source.tensors()) {
    items.push_back({.name = tensor.name,
                     .rows = tensor.shape[0],
                     .as = tensor.buffer ? tensor.dtype : Dtype::kFloat32,
                     .digest = !tensor.buffer});
  }
  return items;
}

// Weights as a committed checkpoint of step 0.
class NativeWriter {
 public:
  NativeWriter(const TensorSource& source, std::string folder, int64_t max_file_bytes)
      : source_(source), folder_(std::move(folder)), items_(all_rows(source)) {
    int64_t size = 0;
    for (size_t i = 0; i < items_.size(); ++i) {
      const int64_t bytes = tensor_bytes(items_[i].as, source.tensors()[i].shape).value();
      if (i == 0 || bytes > max_file_bytes - size) {
        files_.emplace_back();
        size = 0;
      }
      size += bytes;
      files_.back().push_back(i);
      file_of_.push_back(files_.size() - 1);
    }
  }

  absl::StatusOr<std::string> write(const HfOrigin& origin, const Progress& progress) {
    part_.run.model_json = model_json(source_.model(), origin);
    part_.run.spec_json = "{}";
    part_.run.first_loss = part_.run.last_loss = std::numeric_limits<double>::quiet_NaN();  // it was not trained
    part_.mesh = {1, 1, 1, 1, 1, 1};
    WeightsDigest digest(source_);
    absl::Status status = pump(source_, items_, progress, [&](const PumpPiece& piece) {
      if (absl::Status s = open(file_of_[piece.item]); !s.ok()) return s;
      const SourceTensor& tensor = source_.tensors()[piece.item];
      const Sum128 sum = tensor.buffer ? digest_of(piece, tensor) : piece.digest;
      part_.tensors.at("model." + tensor.name).digest += sum;
      digest.add(tensor.name, sum);
      return writer_->append(piece.bytes);
    });
    if (status.ok()) status = close();
    if (!status.ok()) return status;
    const absl::StatusOr<Manifest> manifest = merge({part_});
    if (!manifest.ok()) return manifest.status();
    if (absl::Status s = write_manifest(folder_, *manifest); !s.ok()) return s;
    return digest.hex();
  }

 private:
  static Sum128 digest_of(const PumpPiece& piece, const SourceTensor& tensor) {
    const int64_t size = item_size(tensor.dtype);
    const int64_t row = static_cast<int64_t>(piece.bytes.size()) / piece.rows / size;
    return digest_slice(piece.bytes, size, piece.row_begin * row);
  }

  std::string file_name(size_t file) const {
    return absl::StrFormat("weights-%05d-of-%05d.safetensors", file + 1, files_.size());
  }

  absl::Status open(size_t file) {
    if (writer_ && file == current_) return absl::OkStatus();
    if (absl::Status status = close(); !status.ok()) return status;
    std::vector<TensorLayout> layouts;
    for (const size_t item : files_[file]) {
      const SourceTensor& tensor = source_.tensors()[item];
      const std::string name = "model." + tensor.name;
      layouts.push_back({name, items_[item].as, tensor.shape});
      part_.tensors[name] = {
          items_[item].as, tensor.shape, {{file_name(file), name, spec::whole_box(tensor.shape)}}, Sum128{}};
    }
    auto writer =
        SafetensorsWriter::create(absl::StrCat(folder_, "/", file_name(file)), layouts, {{"format", "qwen3"}});
    if (!writer.ok()) return writer.status();
    writer_.emplace(std::move(*writer));
    current_ = file;
    return absl::OkStatus();
  }

  absl::Status close() {
    if (!writer_) return absl::OkStatus();
    absl::StatusOr<FileRecord> written = writer_->commit();
    writer_.reset();
    if (!written.ok()) return written.status();
    part_.files[file_name(current_)] = *std::move(written);
    return absl::OkStatus();
  }

  const TensorSource& source_;
  const std::string folder_;
  const std::vector<PumpItem> items_;       // of the source's tensors
  std::vector<std::vector<size_t>> files_;  // items of each
  std::vector<size_t> file_of_;             // of items_
  Manifest part_;
  std::optional<SafetensorsWriter> writer_;
  size_t current_ = 0;
};

absl::StatusOr<std::string> write_native(const Opened& from, const std::string& folder, const ConvertOptions& options) {
  if (!options.dtype.empty() && options.dtype != "float32") {
    return absl::InvalidArgumentError(
        absl::StrCat("dtype is \"", options.dtype, "\", but a checkpoint's weights are always float32"));
  }
  absl::StatusOr<ResultFolder> result = ResultFolder::create(folder, kManifestName);
  if (!result.ok()) return result.status();
  if (!from.assets.empty()) {
    const std::string assets = absl::StrCat(result->path(), "/", kAssetsFolder);
    std::error_code error;
    fs::create_directory(assets, error);
    if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat(assets, ": cannot make the folder"));
    if (absl::Status status = copy_assets(from.assets, assets); !status.ok()) return status;
    absl::StatusOr<InputFile> config = open_in_hf_folder(from.assets, kHfConfigName);
    if (!config.ok()) return config.status();
    const absl::StatusOr<std::string> text = config->contents(1 << 20);
    if (!text.ok()) return text.status();
    if (absl::Status s = write_text(absl::StrCat(assets, "/", kHfConfigName), *text); !s.ok()) return s;
  }
  NativeWriter writer(*from.source, result->path(), options.max_file_bytes);
  absl::StatusOr<std::string> digest = writer.write(from.origin, options.progress);
  if (!digest.ok()) return digest.status();
  if (absl::Status status = result->publish(); !status.ok()) return status;
  return digest;
}

// What the pieces of one tensor tell of it.
struct Finding {
  int64_t not_finite = 0;
  bool not_restored = false;
};

}  // namespace

absl::StatusOr<ConvertReport> convert(const Place& from, const Place& to, const ConvertOptions& options) {
  if (same_folder(from.folder, to.folder)) {
    return absl::InvalidArgumentError(absl::StrCat(to.folder, ": is the folder to be read; write to another"));
  }
  absl::StatusOr<Opened> opened = open(from);
  if (!opened.ok()) return opened.status();
  absl::StatusOr<std::string> digest;
  if (to.format == Format::kNative) {
    digest = write_native(*opened, to.folder, options);
  } else {
    HfExport wanted;
    wanted.dtype = options.dtype;
    if (wanted.dtype.empty() && from.format == Format::kNative) {
      wanted.dtype = opened->origin.dtype.empty() ? "float32" : opened->origin.dtype;
    }
    wanted.max_file_bytes = options.max_file_bytes;
    wanted.tied_head = opened->origin.tied_head;
    wanted.assets = opened->assets;
    wanted.progress = options.progress;
    digest = export_hf(*opened->source, wanted, to.folder);
  }
  if (!digest.ok()) return digest.status();
  opened->report.weights_digest = std::move(*digest);
  return std::move(opened->report);
}

absl::StatusOr<ConvertReport> verify(const Place& place, const Progress& progress) {
  std::error_code error;
  if (!fs::is_directory(place.folder, error)) {
    return absl::NotFoundError(absl::StrCat(place.folder, ": no such folder"));
  }
  absl::StatusOr<Opened> opened = open(place);
  if (!opened.ok()) return ConvertReport{.problems = {std::string(opened.status().message())}};
  ConvertReport report = std::move(opened->report);
  const TensorSource& source = *opened->source;
  const auto* native = dynamic_cast<const NativeSource*>(opened->source.get());
  if (native != nullptr) {
    // Moments and buffers are only in the files' digests.
    absl::Status status = verify_files(place.folder, native->manifest());
    if (!status.ok()) {
      report.problems.push_back(std::string(status.message()));
      return report;
    }
  }
  std::vector<PumpItem> items = all_rows(source);
  std::erase_if(items, [&](const PumpItem& item) { return !item.digest; });
  for (PumpItem& item : items) {
    item.check = true;
    item.as = source.find(item.name)->dtype;
  }
  WeightsDigest digest(source);
  std::vector<Finding> findings(items.size());
  const absl::Status status = pump(source, items, progress, [&](const PumpPiece& piece) {
    digest.add(items[piece.item].name, piece.digest);
    findings[piece.item].not_finite += piece.not_finite;
    findings[piece.item].not_restored |= piece.not_restored;
    return absl::OkStatus();
  });
  if (absl::IsCancelled(status)) return status;
  if (!status.ok()) {
    report.problems.push_back(std::string(status.message()));
    return report;
  }
  for (size_t i = 0; i < items.size(); ++i) {
    const std::string where = absl::StrCat("tensor \"", items[i].name, "\": ");
    if (findings[i].not_finite > 0) {
      report.problems.push_back(absl::StrCat(where, findings[i].not_finite, " values are infinite or not a number"));
    }
    if (findings[i].not_restored) {
      report.problems.push_back(
          absl::StrCat(where, "float32 and back to ", dtype_name(items[i].as), " gives other values"));
    }
    if (native == nullptr || items[i].as != Dtype::kFloat32) continue;
    const Sum128& said = native->manifest().tensors.at("model." + items[i].name).digest;
    if (digest.of(items[i].name) != said) {
      report.problems.push_back(
          absl::StrCat(where, "has digest ", digest.of(items[i].name).hex(), ", the manifest says ", said.hex()));
    }
  }
  report.weights_digest = digest.hex();
  return report;
}

}  // namespace qwen3::checkpoint
