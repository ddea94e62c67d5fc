#include "checkpoint/digest.h"

#include <openssl/evp.h>

#include <array>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace qwen3::checkpoint {
namespace {

// The mix of (index, bits), documented in docs/checkpoint-format.md. Both halves are bijections of `bits` for a given
// index, so one changed element always changes the sum; and (index, bits) -> (z1, z2) is injective, since
// z1 + z2 = (index + 1) * (kWeyl1 + kWeyl2), the bracket is twice an odd number, and an index has at most 63 bits.
constexpr uint64_t kWeyl1 = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio: neighbours in index are far apart in z1
constexpr uint64_t kWeyl2 = 0xd1342543de82ef95;  // a multiplier of good spectral quality (Steele & Vigna 2021)

static_assert((kWeyl1 + kWeyl2) % 4 == 2);

// Finaliser of splitmix64 (Stafford's variant 13).
constexpr uint64_t finalise1(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// Finaliser of MurmurHash3.
constexpr uint64_t finalise2(uint64_t z) {
  z = (z ^ (z >> 33)) * 0xff51afd7ed558ccd;
  z = (z ^ (z >> 33)) * 0xc4ceb9fe1a85ec53;
  return z ^ (z >> 33);
}

template <typename Bits>
Sum128 sum_of(std::span<const std::byte> data, int64_t first) {
  const size_t count = data.size() / sizeof(Bits);
  uint64_t low = 0, carries = 0, high = 0;
  uint64_t weyl1 = (static_cast<uint64_t>(first) + 1) * kWeyl1;
  uint64_t weyl2 = (static_cast<uint64_t>(first) + 1) * kWeyl2;
  for (size_t i = 0; i < count; ++i, weyl1 += kWeyl1, weyl2 += kWeyl2) {
    Bits bits;
    std::memcpy(&bits, data.data() + i * sizeof(Bits), sizeof(Bits));  // may be unaligned
    const uint64_t term = finalise1(weyl1 + bits);
    low += term;
    carries += low < term;
    high += finalise2(weyl2 - bits);
  }
  return {low, high + carries};
}

}  // namespace

Sum128& Sum128::operator+=(const Sum128& other) {
  low += other.low;
  high += other.high + (low < other.low);
  return *this;
}

std::string Sum128::hex() const { return absl::StrFormat("%016x%016x", high, low); }

absl::StatusOr<Sum128> Sum128::from_hex(const std::string& hex) {
  if (hex.size() != 32 || hex.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("digest is \"", absl::CEscape(hex.substr(0, 64)), "\", want 32 lower-case hex digits"));
  }
  return Sum128{std::stoull(hex.substr(16), nullptr, 16), std::stoull(hex.substr(0, 16), nullptr, 16)};
}

Sum128 digest_slice(std::span<const std::byte> data, int64_t item_size, int64_t first) {
  if (item_size > 0 && data.size() % static_cast<size_t>(item_size) != 0) {
    throw std::invalid_argument(
        absl::StrCat("digest_slice: ", data.size(), " bytes are no whole number of items of ", item_size));
  }
  switch (item_size) {
    case 1:
      return sum_of<uint8_t>(data, first);
    case 2:
      return sum_of<uint16_t>(data, first);
    case 4:
      return sum_of<uint32_t>(data, first);
    case 8:
      return sum_of<uint64_t>(data, first);
  }
  throw std::invalid_argument(absl::StrCat("digest_slice: item size ", item_size, ", want 1, 2, 4 or 8"));
}

std::string state_digest(const std::map<std::string, TensorDigest>& tensors) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> sha(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned int size = 0;
  bool ok = sha != nullptr && EVP_DigestInit_ex(sha.get(), EVP_sha256(), nullptr) == 1;
  for (const auto& [name, tensor] : tensors) {
    // The length before the name makes the line unambiguous whatever the name holds.
    const std::string line = absl::StrCat(name.size(), ":", name, " ", dtype_name(tensor.dtype), " [",
                                          absl::StrJoin(tensor.shape, ","), "] ", tensor.sum.hex(), "\n");
    ok = ok && EVP_DigestUpdate(sha.get(), line.data(), line.size()) == 1;
  }
  ok = ok && EVP_DigestFinal_ex(sha.get(), bytes.data(), &size) == 1;
  if (!ok) throw std::runtime_error("state_digest: OpenSSL has no SHA-256");
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(bytes.data()), size));
}

}  // namespace qwen3::checkpoint
