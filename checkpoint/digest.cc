#include "checkpoint/digest.h"

#include <openssl/evp.h>

#include <algorithm>
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

// Elements whose halves are added up in 64 bits before they are folded: 2^32 of them would fit.
constexpr size_t kBlock = 4096;

// The sum of low in 128 bits is kept as two sums of 32-bit halves, which has no carries and so becomes vector code.
template <typename Bits>
[[gnu::always_inline]] inline Sum128 add_up(const std::byte* data, size_t count, uint64_t first) {
  Sum128 sum;
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t size = std::min(kBlock, count - begin);
    const uint64_t index = first + begin + 1;
    uint64_t low = 0, carried = 0, high = 0;
    for (size_t i = 0; i < size; ++i) {
      Bits bits;
      std::memcpy(&bits, data + (begin + i) * sizeof(Bits), sizeof(Bits));  // may be unaligned
      const uint64_t term = finalise1((index + i) * kWeyl1 + bits);
      low += term & 0xffffffff;
      carried += term >> 32;
      high += finalise2((index + i) * kWeyl2 - bits);
    }
    carried += low >> 32;
    sum += {(carried << 32) | (low & 0xffffffff), high + (carried >> 32)};
  }
  return sum;
}

template <typename Bits>
[[gnu::optimize("O3")]] Sum128 add_up_anywhere(const std::byte* data, size_t count, uint64_t first) {
  return add_up<Bits>(data, count, first);
}

#if defined(__x86_64__)
// With a 64-bit multiplication of vectors, which the baseline lacks.
template <typename Bits>
[[gnu::optimize("O3"), gnu::target("avx512f,avx512dq,avx512vl")]] Sum128 add_up_avx512(const std::byte* data,
                                                                                       size_t count, uint64_t first) {
  return add_up<Bits>(data, count, first);
}
#endif

template <typename Bits>
Sum128 sum_of(std::span<const std::byte> data, int64_t first) {
  const size_t count = data.size() / sizeof(Bits);
#if defined(__x86_64__)
  static const bool avx512 = __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512) return add_up_avx512<Bits>(data.data(), count, static_cast<uint64_t>(first));
#endif
  return add_up_anywhere<Bits>(data.data(), count, static_cast<uint64_t>(first));
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

Sum128 digest_box(std::span<const std::byte> data, int64_t item_size, const spec::Box& box,
                  const std::vector<int64_t>& shape) {
  Sum128 sum;
  for (const spec::Transfer& run : spec::transfers(box, spec::whole_box(shape))) {
    const auto part =
        data.subspan(static_cast<size_t>(run.from * item_size), static_cast<size_t>(run.count * item_size));
    sum += digest_slice(part, item_size, run.to);
  }
  return sum;
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
