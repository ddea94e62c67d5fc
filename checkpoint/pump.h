// Streams tensors of a source in order, with bounded memory: threads read, convert and digest pieces of a few megabytes
// ahead of the caller, who consumes them one after the other.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "checkpoint/digest.h"
#include "checkpoint/tensor_source.h"

namespace qwen3::checkpoint {

// Who wants to know how far a long operation is, or may end it. Both are called from the thread that runs it.
struct Progress {
  std::function<void(int64_t done, int64_t total)> report = nullptr;  // bytes of source data
  std::function<bool()> cancelled = nullptr;
};

// Rows of one tensor, wanted in one dtype.
struct PumpItem {
  std::string name;
  int64_t row_begin = 0;
  int64_t rows = 0;
  Dtype as = Dtype::kFloat32;
  bool digest = true;  // of the values in float32
  bool check = false;  // count what is not finite, and what narrowing does not give back
};

struct PumpPiece {
  size_t item = 0;  // which of the items
  int64_t row_begin = 0;
  int64_t rows = 0;
  std::span<const std::byte> bytes;  // in the item's dtype; valid during the call
  Sum128 digest;
  int64_t not_finite = 0;
  bool not_restored = false;  // float32 and back to the source's dtype gives other bits
};

// Calls `consume` for all pieces of all items, in order; a piece is whole rows, of about 4 MiB or one row. The first
// error of the source or of `consume` ends it; CANCELLED when progress.cancelled says so.
absl::Status pump(const TensorSource& source, std::span<const PumpItem> items, const Progress& progress,
                  const std::function<absl::Status(const PumpPiece&)>& consume);

}  // namespace qwen3::checkpoint
