// The text form of a manifest: JSON with one line per file and per tensor, and its own checksum first.
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "checkpoint/manifest.h"

namespace qwen3::checkpoint {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormat = 3;
// The text is kOpening, 32 hex digits, kClosing, and the rest, of which the digits are the XXH3-128.
constexpr std::string_view kOpening = "{\n\"xxh3_128\": \"";
constexpr std::string_view kClosing = "\",\n";
constexpr size_t kDigits = 32;

absl::string_view view(std::string_view text) { return {text.data(), text.size()}; }

// A non-finite number has no JSON: null stands for NaN.
double number_or_nan(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

// What a reader of a field wants and did not get.
struct FormatError {
  std::string what;
};

int64_t count(const Json& value, const std::string& where) {
  if (!value.is_number_unsigned() ||
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    throw FormatError{absl::StrCat(where, " is ", value.dump(), ", want a whole number from 0 to 2^63 - 1")};
  }
  return value.get<int64_t>();
}

std::vector<int64_t> counts(const Json& value, const std::string& where) {
  if (!value.is_array()) throw FormatError{absl::StrCat(where, " is not a list")};
  std::vector<int64_t> list;
  for (const Json& item : value) list.push_back(count(item, where));
  return list;
}

// Files live in the checkpoint's folder and nowhere else.
std::string file_name(const std::string& name) {
  const bool plain = !name.empty() && name.size() <= 255 && name[0] != '.' && name != kManifestName &&
                     name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
  if (!plain) {
    throw FormatError{
        absl::StrCat("file \"", absl::CEscape(name),
                     "\" is not in the checkpoint's folder: want a plain name, without '/' or leading '.'")};
  }
  return name;
}

FileRecord file_from(const Json& json, const std::string& name) {
  const std::string where = absl::StrCat("file \"", absl::CEscape(name), "\": ");
  FileRecord file;
  file.size_bytes = count(json.at("size_bytes"), where + "size_bytes");
  file.chunk_bytes = count(json.at("chunk_bytes"), where + "chunk_bytes");
  if (file.chunk_bytes < 1 || file.chunk_bytes > kMaxChunkBytes) {
    throw FormatError{absl::StrCat(where, "chunk_bytes is ", file.chunk_bytes, ", want from 1 to ", kMaxChunkBytes)};
  }
  const Json& digests = json.at("xxh3_128");
  if (!digests.is_array()) throw FormatError{where + "xxh3_128 is not a list"};
  const int64_t chunks = chunk_count(file.size_bytes, file.chunk_bytes);
  if (static_cast<int64_t>(digests.size()) != chunks) {
    throw FormatError{absl::StrCat(where, "has ", digests.size(), " digests, want ", chunks, " for ", file.size_bytes,
                                   " bytes in chunks of ", file.chunk_bytes)};
  }
  for (const Json& digest : digests) {
    file.xxh3_128.push_back(digest.get<std::string>());
    if (absl::Status status = Sum128::from_hex(file.xxh3_128.back()).status(); !status.ok()) {
      throw FormatError{absl::StrCat(where, status.message())};
    }
  }
  return file;
}

Json to_json(const TensorRecord& tensor) {
  Json slices = Json::array();
  for (const Slice& slice : tensor.slices) {
    slices.push_back(
        {{"file", slice.file}, {"key", slice.key}, {"begin", slice.box.begin}, {"shape", slice.box.shape}});
  }
  return {{"dtype", dtype_name(tensor.dtype)},
          {"shape", tensor.shape},
          {"digest", tensor.digest.hex()},
          {"slices", std::move(slices)}};
}

TensorRecord tensor_from(const Json& json, const std::string& name) {
  const std::string where = absl::StrCat("tensor \"", absl::CEscape(name), "\"");
  TensorRecord tensor;
  absl::StatusOr<Dtype> dtype = parse_dtype(json.at("dtype").get<std::string>());
  if (!dtype.ok()) throw FormatError{absl::StrCat(where, ": ", dtype.status().message())};
  tensor.dtype = *dtype;
  tensor.shape = counts(json.at("shape"), where + ".shape");
  if (absl::Status status = tensor_bytes(tensor.dtype, tensor.shape).status(); !status.ok()) {
    throw FormatError{absl::StrCat(where, ": ", status.message())};
  }
  absl::StatusOr<Sum128> digest = Sum128::from_hex(json.at("digest").get<std::string>());
  if (!digest.ok()) throw FormatError{absl::StrCat(where, ": ", digest.status().message())};
  tensor.digest = *digest;
  for (const Json& slice : json.at("slices")) {
    tensor.slices.push_back(
        {.file = file_name(slice.at("file").get<std::string>()),
         .key = slice.at("key").get<std::string>(),
         .box = {counts(slice.at("begin"), where + ".begin"), counts(slice.at("shape"), where + ".shape")}});
  }
  return tensor;
}

RunState run_from(const Json& json) {
  RunState run;
  run.step = count(json.at("step"), "run.step");
  run.tokens = count(json.at("tokens"), "run.tokens");
  run.model_json = json.at("model").get<std::string>();
  run.spec_json = json.at("spec").get<std::string>();
  run.first_loss = number_or_nan(json.at("first_loss"));
  run.last_loss = number_or_nan(json.at("last_loss"));
  run.training_seconds = number_or_nan(json.at("training_seconds"));
  return run;
}

Manifest manifest_from(const Json& json) {
  const int64_t format = count(json.at("format"), "format");
  if (format != kFormat) throw FormatError{absl::StrCat("format is ", format, ", this version reads ", kFormat)};
  Manifest manifest;
  manifest.run = run_from(json.at("run"));
  manifest.ordered = json.at("ordered").get<bool>();
  manifest.mesh = counts(json.at("mesh"), "mesh");
  manifest.state_digest = json.at("state_digest").get<std::string>();
  for (const auto& [name, file] : json.at("files").items()) {
    manifest.files[file_name(name)] = file_from(file, name);
  }
  for (const auto& [name, tensor] : json.at("tensors").items()) manifest.tensors[name] = tensor_from(tensor, name);
  return manifest;
}

std::string lines(const std::vector<std::string>& members) {
  return members.empty() ? "{}" : absl::StrCat("{\n", absl::StrJoin(members, ",\n"), "\n}");
}

}  // namespace

std::string to_json(const Manifest& manifest) {
  const RunState& run = manifest.run;
  const Json run_json = {{"step", run.step},
                         {"tokens", run.tokens},
                         {"first_loss", run.first_loss},
                         {"last_loss", run.last_loss},
                         {"training_seconds", run.training_seconds},
                         {"model", run.model_json},
                         {"spec", run.spec_json}};
  std::vector<std::string> files, tensors;
  for (const auto& [name, file] : manifest.files) {
    const Json json = {{"size_bytes", file.size_bytes}, {"chunk_bytes", file.chunk_bytes}, {"xxh3_128", file.xxh3_128}};
    files.push_back(absl::StrCat(Json(name).dump(), ": ", json.dump()));
  }
  for (const auto& [name, tensor] : manifest.tensors) {
    tensors.push_back(absl::StrCat(Json(name).dump(), ": ", to_json(tensor).dump()));
  }
  const std::string rest = absl::StrCat(
      "\"format\": ", kFormat, ",\n\"run\": ", run_json.dump(), ",\n\"ordered\": ", manifest.ordered ? "true" : "false",
      ",\n\"mesh\": [", absl::StrJoin(manifest.mesh, ","), "],\n\"state_digest\": ", Json(manifest.state_digest).dump(),
      ",\n\"files\": ", lines(files), ",\n\"tensors\": ", lines(tensors), "\n}\n");
  return absl::StrCat(view(kOpening), bytes_digest(rest), view(kClosing), rest);
}

absl::StatusOr<Manifest> from_json(const std::string& json) try {
  const std::string_view text = json;
  constexpr size_t kRest = kOpening.size() + kDigits + kClosing.size();
  if (text.size() < kRest || text.substr(0, kOpening.size()) != kOpening ||
      text.substr(kOpening.size() + kDigits, kClosing.size()) != kClosing) {
    return absl::DataLossError("manifest: does not begin with its \"xxh3_128\"");
  }
  const std::string_view digits = text.substr(kOpening.size(), kDigits);
  const std::string actual = bytes_digest(text.substr(kRest));
  if (digits != actual) {
    return absl::DataLossError(absl::StrCat("manifest: its text has XXH3-128 ", actual, ", but it says ",
                                            absl::CEscape(view(digits)), ": truncated or changed"));
  }
  return manifest_from(Json::parse(text));
} catch (const nlohmann::json::exception& error) {
  return absl::InvalidArgumentError(absl::StrCat("manifest: ", error.what()));
} catch (const FormatError& error) {
  return absl::InvalidArgumentError(absl::StrCat("manifest: ", error.what));
}

}  // namespace qwen3::checkpoint
