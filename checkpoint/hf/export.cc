#include "checkpoint/hf/export.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "checkpoint/float_conversion.h"
#include "checkpoint/hf/config.h"
#include "tokenizer/hf_json.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace qwen3::checkpoint {
namespace {

constexpr int64_t kPieceBytes = 16 << 20;  // of rows read at once
constexpr const char* kConfigName = "config.json";

absl::StatusOr<Dtype> export_dtype(const std::string& name) {
  if (name == "float32") return Dtype::kFloat32;
  if (name == "bfloat16") return Dtype::kBfloat16;
  if (name == "float16") return Dtype::kFloat16;
  return absl::InvalidArgumentError(absl::StrCat("export: dtype is \"", name, "\", want float32, bfloat16 or float16"));
}

// The checkpoint must hold exactly the model's parameters, in their shapes.
absl::Status check_parameters(const Reader& checkpoint, const std::vector<HfTensor>& tensors) {
  std::set<std::string> wanted;
  for (const HfTensor& tensor : tensors) {
    const std::string name = "model." + tensor.parameter;
    wanted.insert(name);
    const auto found = checkpoint.manifest().tensors.find(name);
    if (found == checkpoint.manifest().tensors.end()) {
      return absl::InvalidArgumentError(absl::StrCat(checkpoint.folder(), ": tensor \"", name, "\" is missing"));
    }
    if (found->second.shape != tensor.shape) {
      return absl::InvalidArgumentError(absl::StrCat(checkpoint.folder(), ": tensor \"", name, "\" is [",
                                                     absl::StrJoin(found->second.shape, ","), "], the model wants [",
                                                     absl::StrJoin(tensor.shape, ","), "]"));
    }
  }
  for (const auto& [name, tensor] : checkpoint.manifest().tensors) {
    if (name.starts_with("model.") && !wanted.contains(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat(checkpoint.folder(), ": tensor \"", name, "\" is no parameter of the model"));
    }
  }
  return absl::OkStatus();
}

// Rows as they lie in the checkpoint -> as they are exported. Only float32 is converted.
absl::StatusOr<std::span<const std::byte>> convert(std::span<const std::byte> rows, Dtype from, Dtype to,
                                                   std::vector<uint16_t>& room) {
  if (from == to) return rows;
  if (from != Dtype::kFloat32) {
    return absl::UnimplementedError(absl::StrCat("export: cannot make ", dtype_name(to), " of ", dtype_name(from)));
  }
  room.resize(rows.size() / sizeof(float));
  for (size_t i = 0; i < room.size(); ++i) {
    float value;
    std::memcpy(&value, rows.data() + i * sizeof(float), sizeof(float));
    room[i] = to == Dtype::kBfloat16 ? bfloat16_bits(value) : float16_bits(value);
  }
  return std::as_bytes(std::span(room));
}

absl::Status append_tensor(const Reader& checkpoint, const HfTensor& tensor, Dtype to, SafetensorsWriter& writer) {
  const std::string name = "model." + tensor.parameter;
  const Dtype from = checkpoint.manifest().tensors.at(name).dtype;
  const int64_t rows = row_count(tensor.shape);
  if (rows == 0) return absl::OkStatus();
  const int64_t row_bytes = tensor_bytes(from, tensor.shape).value() / rows;
  const int64_t piece_rows = std::clamp<int64_t>(kPieceBytes / std::max<int64_t>(row_bytes, 1), 1, rows);
  std::vector<std::byte> piece(static_cast<size_t>(piece_rows * row_bytes));
  std::vector<uint16_t> converted;
  for (int64_t row = 0; row < rows; row += piece_rows) {
    const int64_t count = std::min(piece_rows, rows - row);
    const auto part = std::span(piece).first(static_cast<size_t>(count * row_bytes));
    if (absl::Status status = checkpoint.read_rows(name, row, count, part); !status.ok()) return status;
    const auto bytes = convert(part, from, to, converted);
    if (!bytes.ok()) return bytes.status();
    if (absl::Status status = writer.append(*bytes); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// Consecutive tensors of at most `limit` bytes together; a larger tensor has a file of its own.
std::vector<std::vector<HfTensor>> cut_into_files(const std::vector<HfTensor>& tensors, Dtype dtype, int64_t limit) {
  std::vector<std::vector<HfTensor>> files(1);
  int64_t size = 0;
  for (const HfTensor& tensor : tensors) {
    const int64_t bytes = tensor_bytes(dtype, tensor.shape).value();
    if (!files.back().empty() && bytes > limit - size) {
      files.emplace_back();
      size = 0;
    }
    files.back().push_back(tensor);
    size += bytes;
  }
  return files;
}

absl::Status write_text(const std::string& path, const std::string& text) {
  absl::StatusOr<OutputFile> file = OutputFile::create(path, static_cast<int64_t>(text.size()));
  if (!file.ok()) return file.status();
  if (absl::Status status = file->append(text); !status.ok()) return status;
  return file->commit().status();
}

absl::Status write_weights(const Reader& checkpoint, const std::vector<HfTensor>& tensors, Dtype dtype, int64_t limit,
                           const std::string& folder) {
  const auto files = cut_into_files(tensors, dtype, limit);
  nlohmann::ordered_json index = {{"metadata", {{"total_size", 0}}}};
  nlohmann::json weight_map = nlohmann::json::object();
  int64_t total = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string name = files.size() == 1 ? "model.safetensors"
                                               : absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, files.size());
    std::vector<TensorLayout> layouts;
    for (const HfTensor& tensor : files[i]) {
      layouts.push_back({tensor.name, dtype, tensor.shape});
      weight_map[tensor.name] = name;
      total += tensor_bytes(dtype, tensor.shape).value();
    }
    // transformers refuses a file whose metadata does not say that it came from PyTorch ("pt").
    auto writer = SafetensorsWriter::create(absl::StrCat(folder, "/", name), layouts, {{"format", "pt"}});
    if (!writer.ok()) return writer.status();
    for (const HfTensor& tensor : files[i]) {
      if (absl::Status status = append_tensor(checkpoint, tensor, dtype, *writer); !status.ok()) return status;
    }
    if (absl::Status status = writer->commit().status(); !status.ok()) return status;
  }
  if (files.size() == 1) return absl::OkStatus();
  index["metadata"]["total_size"] = total;
  index["weight_map"] = std::move(weight_map);
  return write_text(folder + "/model.safetensors.index.json", index.dump(2) + "\n");
}

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

absl::Status write_folder(const Reader& checkpoint, const spec::ModelShape& model, const HfExport& options, Dtype dtype,
                          const std::string& folder) {
  const std::vector<HfTensor> tensors = hf_tensors(model);
  if (absl::Status status = check_parameters(checkpoint, tensors); !status.ok()) return status;
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
  const SpecialIds ids = special_ids(tokenizer ? &tokenizer->vocabulary() : nullptr, model.vocab);
  absl::Status status = write_weights(checkpoint, tensors, dtype, options.max_file_bytes, folder);
  if (status.ok()) status = write_text(absl::StrCat(folder, "/", kConfigName), config_json(model, ids, options.dtype));
  if (status.ok()) status = write_text(folder + "/generation_config.json", generation_config_json(ids));
  return status;
}

// Puts the finished folder under its name; an earlier export there changes places with it, so that there is one always.
absl::Status publish(const std::string& temporary, const std::string& folder) {
  if (::rename(temporary.c_str(), folder.c_str()) != 0) {
    if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) {
      return absl::ErrnoToStatus(errno, absl::StrCat(folder, ": cannot rename to it"));
    }
    if (!std::filesystem::exists(absl::StrCat(folder, "/", kConfigName))) {
      return absl::AlreadyExistsError(absl::StrCat(folder, ": is there and is no Hugging Face export"));
    }
    if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat(folder, ": cannot replace it"));
    }
  }
  return sync_folder(folder_of(folder));
}

}  // namespace

absl::Status export_hf(const Reader& checkpoint, const spec::ModelShape& model, const HfExport& options,
                       const std::string& folder) {
  if (model.experts > 0) {
    return absl::UnimplementedError(
        absl::StrCat("export: ", model.flavor, " is a MoE model, which cannot be exported yet"));
  }
  const absl::StatusOr<Dtype> dtype = export_dtype(options.dtype);
  if (!dtype.ok()) return dtype.status();
  std::string target = folder;
  while (target.size() > 1 && target.back() == '/') target.pop_back();

  const std::string temporary = absl::StrCat(target, ".tmp-", ::getpid());
  std::error_code error;
  std::filesystem::remove_all(temporary, error);
  std::filesystem::create_directories(temporary, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat(temporary, ": cannot make the folder"));
  absl::Status status = write_folder(checkpoint, model, options, *dtype, temporary);
  if (status.ok()) status = publish(temporary, target);
  std::filesystem::remove_all(temporary, error);  // what failed, or what was replaced
  return status;
}

}  // namespace qwen3::checkpoint
