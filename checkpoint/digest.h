// Digest of a training state that does not depend on how it is cut: per tensor the sum mod 2^128 of a 128-bit mix of
// (global flat index, value bits), so slices are digested where they lie and added; the state's digest is SHA-256 over
// (name, dtype, shape, sum) in name order. Design section 6.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "spec/layout.h"

namespace qwen3::checkpoint {

// A number mod 2^128.
struct Sum128 {
  uint64_t low = 0;
  uint64_t high = 0;
  Sum128& operator+=(const Sum128& other);
  bool operator==(const Sum128& other) const = default;
  std::string hex() const;  // 32 lower-case digits
  static absl::StatusOr<Sum128> from_hex(const std::string& hex);
};

// Digest of a run of elements of 1, 2, 4 or 8 bytes whose first has global flat index `first`.
Sum128 digest_slice(std::span<const std::byte> data, int64_t item_size, int64_t first);

// The same of a box of a tensor of `shape`, stored row-major.
Sum128 digest_box(std::span<const std::byte> data, int64_t item_size, const spec::Box& box,
                  const std::vector<int64_t>& shape);

struct TensorDigest {
  Dtype dtype = Dtype::kFloat32;
  std::vector<int64_t> shape;  // global
  Sum128 sum;                  // over all elements
};

// Lower-case hex SHA-256.
std::string state_digest(const std::map<std::string, TensorDigest>& tensors);

}  // namespace qwen3::checkpoint
