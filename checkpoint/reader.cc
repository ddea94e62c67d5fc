#include "checkpoint/reader.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "checkpoint/verified_file.h"

namespace qwen3::checkpoint {

// A file of the checkpoint, with its header, which was checked; what is read later comes from the same descriptor.
struct OpenFile {
  VerifiedFile file;
  SafetensorsHeader header;
};

// Each file's first use opens it and checks its header, once, also when it fails.
class FileCache {
 public:
  explicit FileCache(const Manifest& manifest) {
    for (const auto& item : manifest.files) slots_.try_emplace(item.first);
  }

  // `record` outlives this: a map's elements stay in place when the manifest is moved.
  absl::StatusOr<const OpenFile*> get(const std::string& folder, const std::string& name, const FileRecord& record) {
    Slot& slot = slots_.at(name);
    std::call_once(slot.once, [&] { slot.file = open(absl::StrCat(folder, "/", name), record); });
    if (!slot.file->ok()) return slot.file->status();
    return &slot.file->value();
  }

 private:
  struct Slot {
    std::once_flag once;
    std::optional<absl::StatusOr<OpenFile>> file;
  };

  static absl::StatusOr<OpenFile> open(const std::string& path, const FileRecord& record) {
    absl::StatusOr<VerifiedFile> file = VerifiedFile::open(path, record);
    if (!file.ok()) return file.status();
    if (absl::Status status = file->check_first(kHeaderLengthBytes); !status.ok()) return status;
    const absl::StatusOr<int64_t> data_offset = read_data_offset(file->file());
    if (!data_offset.ok()) return data_offset.status();
    if (absl::Status status = file->check_first(*data_offset); !status.ok()) return status;
    absl::StatusOr<SafetensorsHeader> header = read_safetensors_header(file->file());
    if (!header.ok()) return header.status();
    return OpenFile{*std::move(file), *std::move(header)};
  }

  std::map<std::string, Slot> slots_;  // never changes after construction
};

namespace {

// The tensor in the file must be what the manifest says of the slice.
absl::StatusOr<const TensorEntry*> entry_of(const OpenFile& source, const Slice& slice, const TensorRecord& tensor) {
  const auto found = source.header.tensors.find(slice.key);
  const std::vector<int64_t>& shape = slice.box.shape;
  if (found != source.header.tensors.end() && found->second.dtype == tensor.dtype && found->second.shape == shape) {
    return &found->second;
  }
  const std::string got =
      found == source.header.tensors.end()
          ? "no such tensor"
          : absl::StrCat(dtype_name(found->second.dtype), " [", absl::StrJoin(found->second.shape, ","), "]");
  return absl::DataLossError(absl::StrCat(source.file.file().path(), ": tensor \"", absl::CEscape(slice.key),
                                          "\": got ", got, ", the manifest says ", dtype_name(tensor.dtype), " [",
                                          absl::StrJoin(shape, ","), "]"));
}

}  // namespace

Reader::Reader(std::string folder, Manifest manifest)
    : folder_(std::move(folder)), manifest_(std::move(manifest)), files_(std::make_unique<FileCache>(manifest_)) {}
Reader::Reader(Reader&&) noexcept = default;
Reader& Reader::operator=(Reader&&) noexcept = default;
Reader::~Reader() = default;

absl::StatusOr<Reader> Reader::open(const std::string& folder) {
  absl::StatusOr<Manifest> manifest = read_manifest(folder);
  if (!manifest.ok()) return manifest.status();
  return Reader(folder, std::move(*manifest));
}

absl::Status Reader::read_rows(const std::string& tensor, int64_t row_begin, int64_t rows,
                               std::span<std::byte> into) const {
  const auto found = manifest_.tensors.find(tensor);
  if (found == manifest_.tensors.end()) return read_box(tensor, {}, into);  // says so
  spec::Box box = spec::whole_box(found->second.shape);
  if (!box.shape.empty()) {
    box.begin[0] = row_begin;
    box.shape[0] = rows;
  }
  return read_box(tensor, box, into);
}

absl::Status Reader::read_box(const std::string& tensor, const spec::Box& box, std::span<std::byte> into) const {
  const std::string where = absl::StrCat(folder_, ": tensor \"", absl::CEscape(tensor), "\": ");
  const auto found = manifest_.tensors.find(tensor);
  if (found == manifest_.tensors.end()) return absl::NotFoundError(absl::StrCat(where, "not in this checkpoint"));
  const TensorRecord& record = found->second;
  if (!spec::is_inside(box, record.shape)) {
    return absl::OutOfRangeError(
        absl::StrCat(where, "asked for ", text_of(box), ", but it is [", absl::StrJoin(record.shape, ","), "]"));
  }
  const int64_t size = item_size(record.dtype);
  if (static_cast<int64_t>(into.size()) != box.numel() * size) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, text_of(box), " has ", box.numel() * size, " bytes, got room for ", into.size()));
  }
  for (const Slice& slice : record.slices) {
    const std::vector<spec::Transfer> runs = spec::transfers(slice.box, box);
    if (runs.empty()) continue;
    const absl::StatusOr<const OpenFile*> source = files_->get(folder_, slice.file, manifest_.files.at(slice.file));
    if (!source.ok()) return source.status();
    absl::StatusOr<const TensorEntry*> entry = entry_of(**source, slice, record);
    if (!entry.ok()) return entry.status();
    const VerifiedFile& file = (*source)->file;
    const int64_t offset = (*source)->header.data_offset + (*entry)->begin;
    VerifiedFile::Buffer buffer;
    for (const spec::Transfer& run : runs) {
      const auto part = into.subspan(static_cast<size_t>(run.to * size), static_cast<size_t>(run.count * size));
      if (absl::Status status = file.read(offset + run.from * size, part, buffer); !status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace qwen3::checkpoint
