#include "checkpoint/digest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace qwen3::checkpoint {
namespace {

std::vector<std::byte> random_bytes(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// The definition of docs/checkpoint-format.md, once more and in 128-bit arithmetic.
Sum128 definition(std::span<const std::byte> data, size_t item, uint64_t first) {
  unsigned __int128 sum = 0;
  for (uint64_t i = 0; i < data.size() / item; ++i) {
    uint64_t bits = 0;
    std::memcpy(&bits, data.data() + i * item, item);
    uint64_t a = bits + (first + i + 1) * 0x9e3779b97f4a7c15;
    uint64_t b = (first + i + 1) * 0xd1342543de82ef95 - bits;
    a = (a ^ (a >> 30)) * 0xbf58476d1ce4e5b9;
    a = (a ^ (a >> 27)) * 0x94d049bb133111eb;
    b = (b ^ (b >> 33)) * 0xff51afd7ed558ccd;
    b = (b ^ (b >> 33)) * 0xc4ceb9fe1a85ec53;
    sum += static_cast<unsigned __int128>(b ^ (b >> 33)) << 64 | (a ^ (a >> 31));
  }
  return {static_cast<uint64_t>(sum), static_cast<uint64_t>(sum >> 64)};
}

TEST(Digest, IsTheOneOfTheFormat) {
  const std::vector<std::byte> bytes = random_bytes(8 * 1000, 1);
  for (const size_t item : {1, 2, 4, 8}) {
    EXPECT_EQ(digest_slice(bytes, static_cast<int64_t>(item), 123).hex(), definition(bytes, item, 123).hex()) << item;
  }
  // Written in the format's document: a change of the digest is a change of the format.
  const std::vector<float> ones(4, 1.0F);
  EXPECT_EQ(digest_slice(std::as_bytes(std::span(ones)), 4, 0).hex(), "f25c0b312d1e2fccf44fd6831123c809");
}

TEST(Digest, SlicesOfAnyCutAddUpToTheWhole) {
  std::mt19937 random(2);
  for (const size_t item : {1, 2, 4, 8}) {
    const std::vector<std::byte> bytes = random_bytes(item * 257, 3);
    const Sum128 whole = digest_slice(bytes, static_cast<int64_t>(item), 1000);
    for (int repetition = 0; repetition < 50; ++repetition) {
      Sum128 sum;
      for (size_t begin = 0; begin < 257;) {
        const size_t size = std::min<size_t>(random() % 60, 257 - begin);  // empty slices too
        const auto slice = std::span(bytes).subspan(begin * item, size * item);
        sum += digest_slice(slice, static_cast<int64_t>(item), 1000 + static_cast<int64_t>(begin));
        begin += size;
      }
      EXPECT_EQ(sum, whole);
    }
  }
}

TEST(Digest, EveryFlippedBitChangesIt) {
  for (const size_t item : {1, 2, 4, 8}) {
    std::vector<std::byte> bytes = random_bytes(item * 64, 4);
    const Sum128 whole = digest_slice(bytes, static_cast<int64_t>(item), 0);
    for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
      const Sum128 changed = digest_slice(bytes, static_cast<int64_t>(item), 0);
      // Both halves are bijections of one element's bits, so both must change.
      EXPECT_NE(changed.low, whole.low);
      EXPECT_NE(changed.high, whole.high);
      bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    }
  }
}

TEST(Digest, EverySwapOfUnequalElementsChangesIt) {
  // Values that differ little, as neighbouring weights do.
  std::vector<float> values(128);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 1.0F + static_cast<float>(i) * 0x1p-23F;
  const Sum128 whole = digest_slice(std::as_bytes(std::span(values)), 4, 0);
  for (size_t i = 0; i < values.size(); ++i) {
    for (size_t j = i + 1; j < values.size(); ++j) {
      std::swap(values[i], values[j]);
      const Sum128 changed = digest_slice(std::as_bytes(std::span(values)), 4, 0);
      EXPECT_NE(changed.low, whole.low) << i << " " << j;
      EXPECT_NE(changed.high, whole.high) << i << " " << j;
      std::swap(values[i], values[j]);
    }
  }
}

TEST(Digest, AShiftByOneElementChangesIt) {
  const std::vector<std::byte> zeros(4 * 100);
  EXPECT_NE(digest_slice(zeros, 4, 0).hex(), digest_slice(zeros, 4, 1).hex());
  EXPECT_NE(digest_slice(zeros, 4, 0).hex(), digest_slice(std::span(zeros).first(396), 4, 0).hex());
}

TEST(Digest, AddsModulo2To128) {
  Sum128 sum{UINT64_MAX, 5};
  sum += Sum128{1, UINT64_MAX};
  EXPECT_EQ(sum.hex(), "00000000000000050000000000000000");
}

TEST(Digest, HexIsReadBackAndNothingElseIs) {
  const Sum128 sum{0x0123456789abcdef, 0xfedcba9876543210};
  EXPECT_EQ(sum.hex(), "fedcba98765432100123456789abcdef");
  EXPECT_EQ(Sum128::from_hex(sum.hex())->hex(), sum.hex());
  for (const char* bad :
       {"", "fedcba98765432100123456789abcde", "fedcba98765432100123456789abcdef0", "FEDCBA98765432100123456789ABCDEF",
        "0xdcba98765432100123456789abcdef", " edcba98765432100123456789abcdef"}) {
    EXPECT_FALSE(Sum128::from_hex(bad).ok()) << bad;
  }
}

TEST(Digest, StateDigestIsTheSha256OfTheDocumentedLines) {
  const std::map<std::string, TensorDigest> tensors = {{"model.b", {Dtype::kBfloat16, {}, {2, 0}}},
                                                       {"model.a", {Dtype::kFloat32, {2, 3}, {1, 0}}}};
  // printf '7:model.a F32 [2,3] %032x\n7:model.b BF16 [] %032x\n' 1 2 | sha256sum
  EXPECT_EQ(state_digest(tensors), "0fa144c9fd17c069b955d2114bfb36af609635d11ee5f1497c815d400ce1583c");
}

TEST(Digest, StateDigestDependsOnNameDtypeShapeAndSum) {
  const auto of = [](const std::string& name, const TensorDigest& tensor) { return state_digest({{name, tensor}}); };
  const std::string base = of("a", {Dtype::kFloat32, {2, 3}, {1, 0}});
  EXPECT_NE(base, of("b", {Dtype::kFloat32, {2, 3}, {1, 0}}));
  EXPECT_NE(base, of("a", {Dtype::kInt32, {2, 3}, {1, 0}}));
  EXPECT_NE(base, of("a", {Dtype::kFloat32, {3, 2}, {1, 0}}));
  EXPECT_NE(base, of("a", {Dtype::kFloat32, {2, 3}, {0, 1}}));
}

}  // namespace
}  // namespace qwen3::checkpoint
