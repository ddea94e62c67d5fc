// What a checkpoint folder holds: manifest.json, written last by the coordinator, and the ranks' safetensors files.
// Format: docs/checkpoint-format.md. Torch-free.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/digest.h"
#include "checkpoint/file.h"
#include "checkpoint/safetensors.h"
#include "spec/layout.h"

namespace qwen3::checkpoint {

// A box of a global tensor, as one tensor of a file.
struct Slice {
  std::string file;  // name in the folder
  std::string key;   // tensor name in that file
  spec::Box box;
};

struct TensorRecord {
  Dtype dtype = Dtype::kFloat32;
  std::vector<int64_t> shape;  // global
  std::vector<Slice> slices;   // by box.begin; together every element exactly once
  Sum128 digest;
};

// What the run was at this step, besides tensors. The losses and seconds are for people: merge takes the first part's.
struct RunState {
  int64_t step = 0;             // optimizer steps done
  int64_t tokens = 0;           // valid tokens trained on
  std::string model_json;       // the model's shape, as JSON; a restore compares it (structural_difference)
  std::string spec_json;        // the JobSpec as JSON, for people
  double first_loss = 0;        // of step 1
  double last_loss = 0;         // of this step
  double training_seconds = 0;  // spent in steps so far
};

// Tensors are named "model.NAME", "exp_avg.NAME", "exp_avg_sq.NAME".
struct Manifest {
  RunState run;
  bool ordered = false;
  std::vector<int64_t> mesh;  // degrees pp, dp_replicate, dp_shard, cp, tp and ep that wrote it
  std::map<std::string, TensorRecord> tensors;
  std::map<std::string, FileRecord> files;
  std::string state_digest;  // filled by merge
};

inline constexpr const char* kManifestName = "manifest.json";

// "[3,4] from [0,2]", for messages.
std::string text_of(const spec::Box& box);

// Rows of a global shape: its first size; 1 for a scalar.
int64_t row_count(const std::vector<int64_t>& shape);

// A rank's part is a Manifest with its own slices and digests only. The text begins with its own XXH3-128, so that any
// changed bit is found. from_json: DATA_LOSS: the checksum differs; INVALID_ARGUMENT: a format that is not ours, or a
// file whose digests do not fit its size.
std::string to_json(const Manifest& manifest);
absl::StatusOr<Manifest> from_json(const std::string& json);

// One manifest from all ranks' parts: every element of every tensor exactly once, equal shapes and run states, or an
// error that names the tensor. Adds the digests and fills state_digest.
absl::StatusOr<Manifest> merge(const std::vector<Manifest>& parts);

// Writes manifest.json: temporary file, fsync, rename, fsync of the folder. From then on the checkpoint is committed.
absl::Status write_manifest(const std::string& folder, const Manifest& manifest);
// Reads it, checks it against itself and against the sizes of the files in the folder. NOT_FOUND: not committed.
absl::StatusOr<Manifest> read_manifest(const std::string& folder);
// Reads every file and compares each chunk's XXH3-128. DATA_LOSS names the file and the chunk's bytes.
absl::Status verify_files(const std::string& folder, const Manifest& manifest);

}  // namespace qwen3::checkpoint
