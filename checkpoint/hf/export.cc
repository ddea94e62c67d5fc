#include "checkpoint/hf/export.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "checkpoint/hf/assets.h"
#include "checkpoint/hf/config.h"
#include "checkpoint/hf/folder.h"
#include "checkpoint/native_source.h"
#include "checkpoint/result_folder.h"
#include "checkpoint/weights_digest.h"
#include "tokenizer/hf_json.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace qwen3::checkpoint {
namespace {

constexpr std::pair<Dtype, const char*> kDtypes[] = {
    {Dtype::kFloat32, "float32"}, {Dtype::kBfloat16, "bfloat16"}, {Dtype::kFloat16, "float16"}};

// A tensor to be written.
struct Output {
  HfTensor tensor;
  Dtype dtype = Dtype::kFloat32;
};

// float64 is no dtype of a Hugging Face folder.
Dtype own_dtype(Dtype dtype) { return dtype == Dtype::kFloat64 ? Dtype::kFloat32 : dtype; }

std::vector<Output> outputs_of(const TensorSource& source, std::optional<Dtype> dtype, bool tied_head) {
  std::map<std::string, Dtype> own;
  for (const SourceTensor& tensor : source.tensors()) own[tensor.name] = own_dtype(tensor.dtype);
  std::vector<Output> outputs;
  for (HfTensor& tensor : hf_tensors(source.model(), tied_head)) {
    const Dtype as = dtype ? *dtype : own.at(tensor.parameter);
    outputs.push_back({std::move(tensor), as});
  }
  return outputs;
}

// Consecutive tensors of at most `limit` bytes together; a larger tensor has a file of its own.
std::vector<std::vector<Output>> cut_into_files(std::vector<Output> outputs, int64_t limit) {
  std::vector<std::vector<Output>> files(1);
  int64_t size = 0;
  for (Output& output : outputs) {
    const int64_t bytes = tensor_bytes(output.dtype, output.tensor.shape).value();
    if (!files.back().empty() && bytes > limit - size) {
      files.emplace_back();
      size = 0;
    }
    files.back().push_back(std::move(output));
    size += bytes;
  }
  return files;
}

// Writes the files one after the other while the pump reads ahead, over their borders too.
class FilesWriter {
 public:
  FilesWriter(std::string folder, std::vector<std::vector<Output>> files)
      : folder_(std::move(folder)), files_(std::move(files)) {
    for (size_t i = 0; i < files_.size(); ++i) {
      for (const Output& output : files_[i]) {
        items_.push_back({output.tensor.parameter, output.tensor.row_begin, output.tensor.rows, output.dtype});
        file_of_.push_back(i);
      }
    }
    // The second copy of an embedding is no weight of its own.
    if (!items_.empty() && items_.size() > 1 && items_.back().name == items_.front().name) items_.back().digest = false;
  }

  absl::StatusOr<std::string> write(const TensorSource& source, const Progress& progress) {
    WeightsDigest digest(source);
    absl::Status status = pump(source, items_, progress, [&](const PumpPiece& piece) {
      if (absl::Status s = open(file_of_[piece.item]); !s.ok()) return s;
      digest.add(items_[piece.item].name, piece.digest);
      return writer_->append(piece.bytes);
    });
    if (status.ok()) status = close();
    if (status.ok() && files_.size() > 1) status = write_index();
    if (!status.ok()) return status;
    return digest.hex();
  }

 private:
  std::string name_of(size_t file) const {
    return files_.size() == 1 ? kHfWeightsName
                              : absl::StrFormat("model-%05d-of-%05d.safetensors", file + 1, files_.size());
  }

  absl::Status open(size_t file) {
    if (writer_ && file == current_) return absl::OkStatus();
    if (absl::Status status = close(); !status.ok()) return status;
    std::vector<TensorLayout> layouts;
    for (const Output& output : files_[file]) {
      layouts.push_back({output.tensor.name, output.dtype, output.tensor.shape});
    }
    // transformers refuses a file whose metadata does not say that it came from PyTorch ("pt").
    auto writer = SafetensorsWriter::create(absl::StrCat(folder_, "/", name_of(file)), layouts, {{"format", "pt"}});
    if (!writer.ok()) return writer.status();
    writer_.emplace(std::move(*writer));
    current_ = file;
    return absl::OkStatus();
  }

  absl::Status close() {
    if (!writer_) return absl::OkStatus();
    const absl::Status status = writer_->commit().status();
    writer_.reset();
    return status;
  }

  absl::Status write_index() const {
    nlohmann::json weight_map = nlohmann::json::object();
    int64_t total = 0;
    for (size_t i = 0; i < files_.size(); ++i) {
      for (const Output& output : files_[i]) {
        weight_map[output.tensor.name] = name_of(i);
        total += tensor_bytes(output.dtype, output.tensor.shape).value();
      }
    }
    nlohmann::ordered_json index = {{"metadata", {{"total_size", total}}}};
    index["weight_map"] = std::move(weight_map);
    return write_text(absl::StrCat(folder_, "/", kHfIndexName), index.dump(2) + "\n");
  }

  const std::string folder_;
  const std::vector<std::vector<Output>> files_;
  std::vector<PumpItem> items_;
  std::vector<size_t> file_of_;  // of items_
  std::optional<SafetensorsWriter> writer_;
  size_t current_ = 0;
};

absl::Status write_tokenizer(const std::string& source, const tokenizer::Vocabulary& vocabulary,
                             const spec::ModelShape& model, const std::string& folder) {
  std::string text = tokenizer_config_json(vocabulary, model);
  if (!source.ends_with(".json")) {
    if (absl::Status status = write_text(folder + "/tokenizer.json", to_hf_json(vocabulary)); !status.ok()) {
      return status;
    }
    return write_text(folder + "/tokenizer_config.json", text);
  }
  const auto contents = [](const std::string& path) -> absl::StatusOr<std::string> {
    absl::StatusOr<InputFile> file = InputFile::open(path);
    if (!file.ok()) return file.status();
    return file->contents(tokenizer::kMaxFileBytes);
  };
  const absl::StatusOr<std::string> json = contents(source);
  if (!json.ok()) return json.status();
  if (absl::Status status = write_text(folder + "/tokenizer.json", *json); !status.ok()) return status;
  const absl::StatusOr<std::string> config = contents(folder_of(source) + "/tokenizer_config.json");
  if (!config.ok() && !absl::IsNotFound(config.status())) return config.status();
  return write_text(folder + "/tokenizer_config.json", config.ok() ? *config : text);
}

// The one dtype that config.json names: that of most bytes.
std::string main_dtype(const std::vector<Output>& outputs) {
  std::map<Dtype, int64_t> bytes;
  for (const Output& output : outputs) bytes[output.dtype] += tensor_bytes(output.dtype, output.tensor.shape).value();
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return weights_dtype_name(most->first);
}

absl::Status write_config(const spec::ModelShape& model, const HfExport& options, const std::string& dtype,
                          const tokenizer::Vocabulary* vocabulary, const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/", kHfConfigName);
  const SpecialIds ids = special_ids(vocabulary, model.vocab);
  const std::string generation = folder + "/generation_config.json";
  absl::StatusOr<InputFile> own =
      options.assets.empty() ? absl::NotFoundError("") : open_in_hf_folder(options.assets, kHfConfigName);
  if (absl::IsNotFound(own.status())) {
    absl::Status status = write_text(path, config_json(model, ids, dtype));
    return status.ok() ? write_text(generation, generation_config_json(ids)) : status;
  }
  if (!own.ok()) return own.status();
  constexpr int64_t kMaxConfigBytes = 64 << 10;
  const absl::StatusOr<std::string> text = own->contents(kMaxConfigBytes);
  if (!text.ok()) return text.status();
  const absl::StatusOr<std::string> adapted = adapt_config(*text, model, dtype);
  if (!adapted.ok()) return adapted.status();
  return write_text(path, *adapted);
}

absl::StatusOr<std::string> write_folder(const TensorSource& source, const HfExport& options,
                                         std::optional<Dtype> dtype, const std::string& folder) {
  const spec::ModelShape& model = source.model();
  if (!options.assets.empty()) {
    if (absl::Status status = copy_assets(options.assets, folder); !status.ok()) return status;
  }
  std::optional<tokenizer::Tokenizer> tokenizer;
  if (!options.tokenizer.empty()) {
    absl::StatusOr<tokenizer::Tokenizer> loaded = tokenizer::Tokenizer::load(options.tokenizer);
    if (!loaded.ok()) return loaded.status();
    if (loaded->vocab_size() > model.vocab) {
      return absl::InvalidArgumentError(absl::StrCat(options.tokenizer, ": has ", loaded->vocab_size(),
                                                     " ids, but the model has a vocabulary of ", model.vocab));
    }
    tokenizer = std::move(*loaded);
    absl::Status status = write_tokenizer(options.tokenizer, tokenizer->vocabulary(), model, folder);
    if (!status.ok()) return status;
  }
  std::vector<Output> outputs = outputs_of(source, dtype, options.tied_head);
  absl::Status status =
      write_config(model, options, main_dtype(outputs), tokenizer ? &tokenizer->vocabulary() : nullptr, folder);
  if (!status.ok()) return status;
  FilesWriter writer(folder, cut_into_files(std::move(outputs), options.max_file_bytes));
  return writer.write(source, options.progress);
}

}  // namespace

absl::StatusOr<Dtype> weights_dtype(const std::string& name) {
  for (const auto& [dtype, known] : kDtypes) {
    if (name == known) return dtype;
  }
  return absl::InvalidArgumentError(absl::StrCat("dtype is \"", name, "\", want float32, bfloat16 or float16"));
}

std::string weights_dtype_name(Dtype dtype) {
  for (const auto& [known, name] : kDtypes) {
    if (dtype == known) return name;
  }
  return dtype_name(dtype);
}

absl::StatusOr<std::string> export_hf(const TensorSource& source, const HfExport& options, const std::string& folder) {
  std::optional<Dtype> dtype;
  if (!options.dtype.empty()) {
    const absl::StatusOr<Dtype> named = weights_dtype(options.dtype);
    if (!named.ok()) return named.status();
    dtype = *named;
  }
  absl::StatusOr<ResultFolder> result = ResultFolder::create(folder, kHfConfigName);
  if (!result.ok()) return result.status();
  absl::StatusOr<std::string> digest = write_folder(source, options, dtype, result->path());
  if (!digest.ok()) return digest.status();
  if (absl::Status status = result->publish(); !status.ok()) return status;
  return digest;
}

absl::Status export_hf(const Reader& checkpoint, const spec::ModelShape& model, const HfExport& options,
                       const std::string& folder) {
  const absl::StatusOr<std::unique_ptr<NativeSource>> source = NativeSource::over(checkpoint, model);
  if (!source.ok()) return source.status();
  return export_hf(**source, options, folder).status();
}

}  // namespace qwen3::checkpoint
