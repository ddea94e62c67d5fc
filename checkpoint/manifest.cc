#include "checkpoint/manifest.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "checkpoint/verified_file.h"

namespace qwen3::checkpoint {
namespace {

constexpr int64_t kMaxManifestBytes = int64_t{256} << 20;

std::string quoted(const std::string& name) { return absl::StrCat("tensor \"", absl::CEscape(name), "\": "); }

// Slices, in the order of their begins, must cover the tensor's elements exactly once: no two have one in common, and
// their sizes add up.
absl::Status check_cover(const std::string& name, const TensorRecord& tensor) {
  int64_t covered = 0;
  for (size_t i = 0; i < tensor.slices.size(); ++i) {
    const Slice& slice = tensor.slices[i];
    if (!spec::is_inside(slice.box, tensor.shape)) {
      return absl::InvalidArgumentError(absl::StrCat(quoted(name), "slice ", text_of(slice.box), " in ", slice.file,
                                                     ", but the tensor is [", absl::StrJoin(tensor.shape, ","), "]"));
    }
    const int64_t end = tensor.shape.empty() ? 1 : slice.box.begin[0] + slice.box.shape[0];
    for (size_t j = i + 1; j < tensor.slices.size(); ++j) {
      const Slice& other = tensor.slices[j];
      if (!spec::is_inside(other.box, tensor.shape)) break;  // reported when it is its turn
      if (!tensor.shape.empty() && other.box.begin[0] >= end) break;
      const spec::Box common = spec::intersection(slice.box, other.box);
      if (common.empty()) continue;
      return absl::InvalidArgumentError(absl::StrCat(quoted(name), "elements ", text_of(common),
                                                     " are there twice (in ", slice.file, " and again in ", other.file,
                                                     ")"));
    }
    covered += slice.box.numel();
  }
  const int64_t wanted = spec::whole_box(tensor.shape).numel();
  if (covered == wanted) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(quoted(name), wanted - covered, " of ", wanted, " elements are missing: no slice holds them"));
}

// What must hold of any committed manifest, apart from the files themselves.
absl::Status check_whole(const Manifest& manifest) {
  std::set<std::pair<std::string, std::string>> keys;
  for (const auto& [name, tensor] : manifest.tensors) {
    if (absl::Status status = check_cover(name, tensor); !status.ok()) return status;
    for (const Slice& slice : tensor.slices) {
      if (!manifest.files.contains(slice.file)) {
        return absl::InvalidArgumentError(
            absl::StrCat(quoted(name), "is in ", slice.file, ", which is no listed file"));
      }
      if (!keys.emplace(slice.file, slice.key).second) {
        return absl::InvalidArgumentError(
            absl::StrCat(quoted(name), "key \"", absl::CEscape(slice.key), "\" of ", slice.file, " is used twice"));
      }
    }
  }
  return absl::OkStatus();
}

std::string digest_of(const Manifest& manifest) {
  std::map<std::string, TensorDigest> digests;
  for (const auto& [name, tensor] : manifest.tensors) digests[name] = {tensor.dtype, tensor.shape, tensor.digest};
  return state_digest(digests);
}

absl::Status check_same_run(const Manifest& first, const Manifest& part, size_t index) {
  const auto differs = [&](const std::string& field, const std::string& got, const std::string& want) {
    return absl::InvalidArgumentError(
        absl::StrCat("run: ", field, " is ", got, " in part ", index, ", but ", want, " in part 0"));
  };
  if (part.run.step != first.run.step) {
    return differs("step", absl::StrCat(part.run.step), absl::StrCat(first.run.step));
  }
  if (part.run.tokens != first.run.tokens) {
    return differs("tokens", absl::StrCat(part.run.tokens), absl::StrCat(first.run.tokens));
  }
  if (part.run.model_json != first.run.model_json) return differs("model", part.run.model_json, first.run.model_json);
  if (part.run.spec_json != first.run.spec_json) return differs("spec", part.run.spec_json, first.run.spec_json);
  if (part.mesh != first.mesh) return differs("mesh", absl::StrJoin(part.mesh, "x"), absl::StrJoin(first.mesh, "x"));
  if (part.ordered != first.ordered) return differs("ordered", absl::StrCat(part.ordered), absl::StrCat(first.ordered));
  return absl::OkStatus();
}

absl::Status add_tensor(const std::string& name, const TensorRecord& part, TensorRecord& whole) {
  if (part.dtype != whole.dtype || part.shape != whole.shape) {
    return absl::InvalidArgumentError(
        absl::StrCat(quoted(name), dtype_name(part.dtype), " [", absl::StrJoin(part.shape, ","), "] in one part, ",
                     dtype_name(whole.dtype), " [", absl::StrJoin(whole.shape, ","), "] in another"));
  }
  for (const Slice& slice : part.slices) {
    if (!slice.box.empty()) whole.slices.push_back(slice);  // a rank may own no element
  }
  whole.digest += part.digest;
  return absl::OkStatus();
}

}  // namespace

std::string text_of(const spec::Box& box) {
  return absl::StrCat("[", absl::StrJoin(box.shape, ","), "] from [", absl::StrJoin(box.begin, ","), "]");
}

int64_t row_count(const std::vector<int64_t>& shape) { return shape.empty() ? 1 : shape[0]; }

absl::StatusOr<Manifest> merge(const std::vector<Manifest>& parts) {
  if (parts.empty()) return absl::InvalidArgumentError("merge: no parts");
  Manifest whole;
  whole.run = parts[0].run;
  whole.ordered = parts[0].ordered;
  whole.mesh = parts[0].mesh;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (absl::Status status = check_same_run(parts[0], parts[i], i); !status.ok()) return status;
    for (const auto& [name, file] : parts[i].files) {
      if (!whole.files.emplace(name, file).second) {
        return absl::InvalidArgumentError(absl::StrCat("file ", name, ": written by two parts"));
      }
    }
    for (const auto& [name, tensor] : parts[i].tensors) {
      const auto [found, is_new] = whole.tensors.try_emplace(name);
      if (is_new) {
        found->second.dtype = tensor.dtype;
        found->second.shape = tensor.shape;
      }
      if (absl::Status status = add_tensor(name, tensor, found->second); !status.ok()) return status;
    }
  }
  for (auto& [name, tensor] : whole.tensors) {
    std::sort(tensor.slices.begin(), tensor.slices.end(), [](const Slice& a, const Slice& b) {
      return std::tie(a.box.begin, a.file) < std::tie(b.box.begin, b.file);
    });
  }
  if (absl::Status status = check_whole(whole); !status.ok()) return status;
  whole.state_digest = digest_of(whole);
  return whole;
}

absl::Status write_manifest(const std::string& folder, const Manifest& manifest) {
  const std::string text = to_json(manifest);
  absl::StatusOr<OutputFile> file =
      OutputFile::create(absl::StrCat(folder, "/", kManifestName), static_cast<int64_t>(text.size()));
  if (!file.ok()) return file.status();
  if (absl::Status status = file->append(text); !status.ok()) return status;
  return file->commit().status();
}

absl::StatusOr<Manifest> read_manifest(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/", kManifestName);
  absl::StatusOr<InputFile> file = InputFile::open(path, Links::kRefuse);
  if (!file.ok()) return file.status();
  absl::StatusOr<std::string> text = file->contents(kMaxManifestBytes);
  if (!text.ok()) return text.status();
  const auto in_file = [&](const absl::Status& status) {
    return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
  };
  absl::StatusOr<Manifest> manifest = from_json(*text);
  if (!manifest.ok()) return in_file(manifest.status());
  if (absl::Status status = check_whole(*manifest); !status.ok()) return in_file(status);
  if (const std::string actual = digest_of(*manifest); actual != manifest->state_digest) {
    return absl::DataLossError(absl::StrCat(path, ": state_digest is ", absl::CEscape(manifest->state_digest),
                                            ", but the tensors' digests give ", actual));
  }
  for (const auto& [name, record] : manifest->files) {
    absl::Status status = VerifiedFile::open(absl::StrCat(folder, "/", name), record).status();
    if (!status.ok()) return status;
  }
  return manifest;
}

absl::Status verify_files(const std::string& folder, const Manifest& manifest) {
  for (const auto& [name, record] : manifest.files) {
    const absl::StatusOr<VerifiedFile> file = VerifiedFile::open(absl::StrCat(folder, "/", name), record);
    if (!file.ok()) return file.status();
    if (absl::Status status = file->check_first(record.size_bytes); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace qwen3::checkpoint
