#include "checkpoint/hf/reader.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "checkpoint/float_conversion.h"
#include "checkpoint/hf/folder.h"
#include "checkpoint/hf/names.h"
#include "checkpoint/problems.h"
#include "checkpoint/reader.h"
#include "spec/hf_config.h"
#include "spec/parameters.h"

namespace qwen3::checkpoint {
namespace {

constexpr size_t kPieceBytes = 256 << 10;  // read at once when it is converted: stays in the cache

std::string text_of(Dtype dtype, const std::vector<int64_t>& shape) {
  return absl::StrCat(dtype_name(dtype), " [", absl::StrJoin(shape, ","), "]");
}

int64_t items(const std::vector<int64_t>& shape, size_t from_dim) {
  int64_t count = 1;
  for (size_t i = from_dim; i < shape.size(); ++i) count *= shape[i];
  return count;
}

}  // namespace

// Fills a reader; everything that is wrong is collected.
class HfReader::Builder {
 public:
  explicit Builder(HfReader& reader) : reader_(reader) {}

  absl::Status build(const HfWeights& weights) {
    for (spec::ParameterShape& parameter : spec::parameters(reader_.model_)) {
      reader_.tensors_.push_back({std::move(parameter.name), std::move(parameter.shape)});
    }
    reader_.places_.resize(reader_.tensors_.size());
    for (const std::string& file : weights.files) read_file(file, weights);
    // What is in a file that could not be read would only repeat the file's own error.
    if (!unreadable_) {
      if (weights.has_index) unkept_promises(weights.index);
      missing();
    }
    for (size_t i = 0; i < reader_.tensors_.size(); ++i) set_dtype(i);
    return problems_.status(reader_.folder_);
  }

 private:
  void read_file(const std::string& name, const HfWeights& weights) {
    absl::StatusOr<InputFile> file = open_in_hf_folder(reader_.folder_, name);
    absl::StatusOr<SafetensorsHeader> header = file.ok() ? read_safetensors_header(*file) : file.status();
    if (!header.ok()) {
      unreadable_ = true;
      if (absl::IsNotFound(header.status()) && weights.has_index) {
        problems_.add("file ", name, " is missing; ", kHfIndexName, " names it");
      } else {
        problems_.add(header.status().message());
      }
      return;
    }
    const auto number = static_cast<int32_t>(reader_.files_.size());
    reader_.files_.push_back(std::move(*file));
    for (const auto& [tensor, entry] : header->tensors) {
      ++reader_.stored_tensors_;
      if (weights.has_index && !indexed(tensor, name, weights.index)) continue;
      place(tensor, entry, header->data_offset, number);
    }
  }

  bool indexed(const std::string& tensor, const std::string& file, const HfIndex& index) {
    const auto found = index.tensors.find(tensor);
    const std::string* says = found == index.tensors.end() ? nullptr : &index.files[static_cast<size_t>(found->second)];
    if (says != nullptr && *says == file) {
      kept_.insert(&found->first);
      return true;
    }
    problems_.add("tensor \"", absl::CEscape(tensor), "\" is in ", file, ", but ", kHfIndexName,
                  says == nullptr ? " does not name it" : absl::StrCat(" says it is in ", *says));
    return false;
  }

  void unkept_promises(const HfIndex& index) {
    for (const auto& [name, file] : index.tensors) {
      if (kept_.contains(&name)) continue;
      problems_.add("tensor \"", absl::CEscape(name), "\" is not in ", index.files[static_cast<size_t>(file)], ", but ",
                    kHfIndexName, " says so");
    }
  }

  void place(const std::string& name, const TensorEntry& entry, int64_t data_offset, int32_t file) {
    const std::optional<HfTarget> target = find_hf_name(reader_.model_, name);
    if (!target) {
      problems_.add("tensor \"", absl::CEscape(name), "\" is unexpected: a model of this config.json has none");
      return;
    }
    if (target->kind == HfTarget::kIgnored) return;
    const bool good = entry.shape == target->shape && is_float(entry.dtype) && entry.dtype != Dtype::kFloat64;
    if (!good) {
      problems_.add("tensor \"", name, "\" is ", text_of(entry.dtype, entry.shape), ", want [",
                    absl::StrJoin(target->shape, ","), "] of F32, BF16 or F16");
    }
    const int64_t size = item_size(entry.dtype);
    Part part{good ? file : -1, entry.dtype, data_offset + entry.begin, 0};
    switch (target->kind) {
      case HfTarget::kTiedHead:
        part.stride = items(target->shape, 1) * size;
        if (good) reader_.tied_head_ = part;
        return;
      case HfTarget::kWhole:
        part.stride = items(target->shape, 1) * size;
        return claim(name, target->parameter, -1, part);
      case HfTarget::kExpert:
        part.stride = items(target->shape, 0) * size;
        return claim(name, target->parameter, target->expert, part);
      default: {
        part.stride = items(target->shape, 1) * size;
        claim(name, target->parameter, -1, part);
        part.offset += part.stride / 2;
        claim(name, target->second, -1, part);
      }
    }
  }

  // `row` -1: all rows. A tensor is either whole or cut into its rows.
  void claim(const std::string& name, size_t parameter, int64_t row, const Part& part) {
    const int64_t rows = row_count(reader_.tensors_[parameter].shape);
    Tensor& tensor = reader_.places_[parameter];
    const size_t wanted = row < 0 ? 1 : static_cast<size_t>(rows), index = row < 0 ? 0 : static_cast<size_t>(row);
    if (tensor.parts.empty()) {
      tensor.parts.resize(wanted);
      tensor.claimed.resize(wanted);
    }
    if (tensor.parts.size() != wanted || tensor.claimed[index]) {
      problems_.add("tensor \"", name, "\" is there twice, in one file and another or fused and expert by expert");
      return;
    }
    tensor.claimed[index] = true;
    tensor.parts[index] = part;
  }

  void missing() {
    for (const HfTensor& tensor : hf_tensors(reader_.model_)) {
      if (tensor.parameter != last_) {  // experts of one parameter follow each other three by three
        last_ = tensor.parameter;
        last_index_ = index_of(tensor.parameter);
      }
      const Tensor& place = reader_.places_[last_index_];
      const size_t part = place.parts.size() > 1 ? static_cast<size_t>(tensor.row_begin) : 0;
      if (part < place.claimed.size() && place.claimed[part]) continue;
      problems_.add("tensor \"", tensor.name, "\" is missing");
    }
  }

  size_t index_of(const std::string& parameter) {
    if (index_.empty()) {
      for (size_t i = 0; i < reader_.tensors_.size(); ++i) index_[reader_.tensors_[i].name] = i;
    }
    return index_.at(parameter);
  }

  void set_dtype(size_t tensor) {
    const std::vector<Part>& parts = reader_.places_[tensor].parts;
    if (parts.empty()) return;
    const bool one = std::all_of(parts.begin(), parts.end(), [&](const Part& p) { return p.dtype == parts[0].dtype; });
    reader_.tensors_[tensor].dtype = one ? parts[0].dtype : Dtype::kFloat32;
  }

  HfReader& reader_;
  Problems problems_;
  bool unreadable_ = false;
  std::set<const std::string*> kept_;  // names of the index that are where it says
  std::unordered_map<std::string, size_t> index_;
  std::string last_;
  size_t last_index_ = 0;
};

absl::StatusOr<std::unique_ptr<HfReader>> HfReader::open(const std::string& folder) {
  std::unique_ptr<HfReader> reader(new HfReader);
  reader->folder_ = folder;
  while (reader->folder_.size() > 1 && reader->folder_.back() == '/') reader->folder_.pop_back();
  std::error_code error;
  if (!std::filesystem::is_directory(reader->folder_, error)) {
    return absl::NotFoundError(absl::StrCat(folder, ": no such folder"));
  }
  absl::StatusOr<InputFile> config = open_in_hf_folder(reader->folder_, kHfConfigName);
  if (!config.ok()) return config.status();
  absl::StatusOr<std::string> text = config->contents(static_cast<int64_t>(spec::kMaxHfConfigBytes));
  if (!text.ok()) return absl::InvalidArgumentError(text.status().message());
  absl::StatusOr<spec::ModelShape> model = spec::parse_hf_config(*text);
  if (!model.ok()) {
    Problems problems;
    for (const absl::string_view line : absl::StrSplit(model.status().message(), '\n')) problems.add(line);
    return problems.status(absl::StrCat(reader->folder_, "/", kHfConfigName));
  }
  reader->config_text_ = std::move(*text);
  reader->model_ = std::move(*model);
  const absl::StatusOr<HfWeights> weights = find_hf_weights(reader->folder_);
  if (!weights.ok()) return weights.status();
  if (absl::Status status = Builder(*reader).build(*weights); !status.ok()) return status;
  for (size_t i = 0; i < reader->tensors_.size(); ++i) reader->by_name_[reader->tensors_[i].name] = i;
  return reader;
}

absl::Status HfReader::read_box(std::string_view name, const spec::Box& box, std::span<std::byte> into,
                                Dtype as) const {
  const auto fail = [&](absl::StatusCode code, const std::string& what) {
    return absl::Status(
        code, absl::StrCat(folder_, ": tensor \"", absl::string_view(name.data(), name.size()), "\": ", what));
  };
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return fail(absl::StatusCode::kNotFound, "not in this model");
  const SourceTensor& tensor = tensors_[found->second];
  if (!spec::is_inside(box, tensor.shape)) {
    return fail(absl::StatusCode::kOutOfRange,
                absl::StrCat("asked for ", text_of(box), ", but it is [", absl::StrJoin(tensor.shape, ","), "]"));
  }
  if (!is_float(as) || static_cast<int64_t>(into.size()) != box.numel() * item_size(as)) {
    return fail(absl::StatusCode::kInvalidArgument,
                absl::StrCat(text_of(box), " of ", dtype_name(as), " has ", box.numel() * item_size(as),
                             " bytes, got room for ", into.size()));
  }
  const std::vector<Part>& parts = places_[found->second].parts;
  const int64_t row_items = items(tensor.shape, 1), rows_per_part = parts.size() == 1 ? tensor.shape[0] : 1;
  for (const spec::Transfer& run : spec::transfers(spec::whole_box(tensor.shape), box)) {
    for (int64_t done = 0; done < run.count;) {  // a run may go on from one expert into the next
      const int64_t row = (run.from + done) / row_items, item = (run.from + done) % row_items;
      const Part& part = parts[static_cast<size_t>(parts.size() == 1 ? 0 : row)];
      const int64_t row_in_part = parts.size() == 1 ? row : 0;
      const bool whole_rows = item == 0 && run.count - done >= row_items;
      const int64_t rows = whole_rows ? std::min((run.count - done) / row_items, rows_per_part - row_in_part) : 1;
      const int64_t count = whole_rows ? rows * row_items : std::min(run.count - done, row_items - item);
      const auto target = into.subspan(static_cast<size_t>((run.to + done) * item_size(as)),
                                       static_cast<size_t>(count * item_size(as)));
      absl::Status s;
      if (whole_rows) {
        s = read_part(part, row_in_part, rows, row_items, target, as);
      } else {
        const int64_t size = item_size(part.dtype);
        s = read_part({part.file, part.dtype, part.offset + row_in_part * part.stride + item * size, count * size}, 0,
                      1, count, target, as);
      }
      if (!s.ok()) return s;
      done += count;
    }
  }
  if (found->second != 0 || !tied_head() || box.empty()) return absl::OkStatus();
  return compare_tied_head(parts[0], box.begin[0], box.shape[0], row_items);
}

// In float32, so that a difference that rounding would hide is seen.
absl::Status HfReader::compare_tied_head(const Part& part, int64_t row_begin, int64_t rows, int64_t row_items) const {
  std::vector<std::byte> head(kPieceBytes), embedding(kPieceBytes);
  const int64_t piece_rows = std::max<int64_t>(1, static_cast<int64_t>(kPieceBytes) / (row_items * 4));
  for (int64_t row = row_begin; row < row_begin + rows; row += piece_rows) {
    const int64_t count = std::min(piece_rows, row_begin + rows - row);
    const auto size = static_cast<size_t>(count * row_items * 4);
    head.resize(size);
    embedding.resize(size);
    absl::Status s = read_part(tied_head_, row, count, row_items, head, Dtype::kFloat32);
    if (s.ok()) s = read_part(part, row, count, row_items, embedding, Dtype::kFloat32);
    if (!s.ok()) return s;
    if (std::memcmp(head.data(), embedding.data(), size) != 0) {
      return absl::DataLossError(absl::StrCat(folder_, ": tensor \"lm_head.weight\" differs from ",
                                              "\"model.embed_tokens.weight\" in rows ", row, " to ", row + count - 1,
                                              ", but config.json says tie_word_embeddings"));
    }
  }
  return absl::OkStatus();
}

absl::Status HfReader::read_part(const Part& part, int64_t row, int64_t rows, int64_t row_items,
                                 std::span<std::byte> into, Dtype as) const {
  const InputFile& file = files_[static_cast<size_t>(part.file)];
  const int64_t size = item_size(part.dtype);
  if (part.stride != row_items * size) {  // fused: each row apart
    for (int64_t i = 0; i < rows; ++i) {
      const auto row_bytes = static_cast<size_t>(row_items * item_size(as));
      Part one = part;
      one.offset += (row + i) * part.stride;
      one.stride = row_items * size;
      const auto target = into.subspan(static_cast<size_t>(i) * row_bytes, row_bytes);
      if (absl::Status s = read_part(one, 0, 1, row_items, target, as); !s.ok()) return s;
    }
    return absl::OkStatus();
  }
  int64_t offset = part.offset + row * part.stride;
  if (part.dtype == as) return file.read(offset, into);
  std::vector<std::byte> piece(std::min(kPieceBytes, static_cast<size_t>(rows * row_items * size)));
  for (size_t done = 0; done < into.size();) {
    const size_t count =
        std::min(piece.size() / static_cast<size_t>(size), (into.size() - done) / static_cast<size_t>(item_size(as)));
    const auto bits = std::span(piece).first(count * static_cast<size_t>(size));
    if (absl::Status s = file.read(offset, bits); !s.ok()) return s;
    const size_t bytes = count * static_cast<size_t>(item_size(as));
    convert_values(bits, part.dtype, into.subspan(done, bytes), as);
    offset += static_cast<int64_t>(bits.size());
    done += bytes;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<TensorSource>> open_hf_source(const std::string& folder) {
  return HfReader::open(folder);
}

}  // namespace qwen3::checkpoint
