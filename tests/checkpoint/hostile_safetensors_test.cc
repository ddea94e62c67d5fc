// Files made to harm the reader are refused with a sentence, quickly, and without allocating what they ask for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <random>

#include "absl/strings/str_cat.h"
#include "checkpoint/safetensors.h"
#include "tests/checkpoint/scene.h"

namespace {
std::atomic<size_t> live_bytes{0};
std::atomic<size_t> peak_bytes{0};
constexpr size_t kPrefix = alignof(std::max_align_t);  // holds the size of the block
}  // namespace

// Counts what this binary allocates with new; the reader uses nothing else.
void* operator new(size_t size) {
  auto* block = static_cast<char*>(std::malloc(size + kPrefix));
  if (block == nullptr) throw std::bad_alloc();
  *reinterpret_cast<size_t*>(block) = size;
  const size_t live = live_bytes += size;
  if (live > peak_bytes) peak_bytes = live;
  return block + kPrefix;
}
void operator delete(void* pointer) noexcept {
  if (pointer == nullptr) return;
  char* block = static_cast<char*>(pointer) - kPrefix;
  live_bytes -= *reinterpret_cast<size_t*>(block);
  std::free(block);
}
void operator delete(void* pointer, size_t) noexcept { operator delete(pointer); }

namespace qwen3::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

// Processor time, so that other processes do not count.
double thread_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
constexpr double kSlowdown = 20;
#else
constexpr double kSlowdown = 1;
#endif

std::string little_endian(uint64_t value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};  // the tests run on x86-64
}

// A file with this header text and so many bytes of data.
std::string file_with(const std::string& header, size_t data_bytes) {
  return little_endian(header.size()) + header + std::string(data_bytes, '\0');
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return absl::StrCat("\"", name, "\":{\"dtype\":\"", dtype, "\",\"shape\":[", shape, "],\"data_offsets\":[", offsets,
                      "]}");
}

std::string repeated(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

std::string a_million_tensors() {
  std::string header = "{";
  for (int i = 0; i < 1'000'000; ++i) header += tensor(absl::StrCat(i), "F32", "0", "0,0") + ",";
  header.back() = '}';
  return header;
}

struct Hostile {
  const char* what;
  std::string bytes;
  const char* complaint;
};

std::vector<Hostile> hostile_files() {
  const std::string f32 = tensor("a", "F32", "1", "0,4");
  return {
      {"nothing", "", "has 0 bytes, not even a header length"},
      {"half a length", "abc", "has 3 bytes, not even a header length"},
      {"length of u64::MAX", little_endian(UINT64_MAX) + "{}", "header length 18446744073709551615, want at most"},
      {"length of i64::MIN", little_endian(uint64_t{1} << 63) + "{}", "want at most 100000000"},
      {"length over 100 MB", little_endian(100'000'001) + "{}", "header length 100000001, want at most 100000000"},
      {"length over the file", little_endian(3) + "{}", "header length 3, but the file has 10 bytes"},
      {"header of no bytes", file_with("", 0), "ends where '{' is wanted"},
      {"not JSON", file_with("hello", 0), "got 'h', want '{'"},
      {"a list", file_with("[]", 0), "got '[', want '{'"},
      {"cut in a key", file_with("{\"a", 0), "ends inside a string"},
      {"cut after a key", file_with("{\"a\":", 0), "ends where '{' is wanted"},
      {"cut in a list", file_with(R"({"a":{"shape":[1,)", 0), "want a non-negative whole number"},
      {"text after the header", file_with("{" + f32 + "}x", 4), "text after the closing brace"},
      {"a trailing comma", file_with("{" + f32 + ",}", 4), "got '}', want '\"'"},
      {"deep lists", file_with("{\"a\":" + repeated("[", 1'000'000), 0), "got '[', want '{'"},
      {"deep objects", file_with(repeated("{\"a\":", 1'000'000), 0), "tensor \"a\": key \"a\" is unknown"},
      {"deep lists in a shape", file_with("{\"a\":{\"shape\":" + repeated("[", 1'000'000), 0), "whole number"},
      {"a control byte in a name", file_with("{\"a\n\":1}", 0), "control character"},
      {"a bad escape", file_with("{\"\\x\":1}", 0), "unknown escape"},
      {"half a surrogate", file_with("{\"\\ud800\":1}", 0), "half a surrogate pair"},
      {"a tensor named twice", file_with("{" + f32 + "," + f32 + "}", 4), "tensor \"a\": named twice"},
      {"named twice by an escape", file_with("{" + f32 + "," + tensor("\\u0061", "F32", "1", "4,8") + "}", 8),
       "tensor \"a\": named twice"},
      {"metadata twice", file_with(R"({"__metadata__":{},"__metadata__":{}})", 0), "__metadata__: named twice"},
      {"metadata that is no text", file_with(R"({"__metadata__":{"a":1}})", 0), "__metadata__: "},
      {"a key twice", file_with(R"({"a":{"dtype":"F32","dtype":"F32"}})", 0),
       "key \"dtype\" is unknown or named twice"},
      {"an unknown key", file_with(R"({"a":{"strides":[1]}})", 0), "tensor \"a\": key \"strides\" is unknown"},
      {"a missing key", file_with(R"({"a":{"dtype":"F32","shape":[1]}})", 0), "needs dtype, shape and data_offsets"},
      {"an unknown dtype", file_with("{" + tensor("a", "F31", "1", "0,4") + "}", 4), "dtype is \"F31\", want F64"},
      {"no name", file_with("{" + tensor("", "F32", "1", "0,4") + "}", 4), "without a name"},
      {"a negative size", file_with("{" + tensor("a", "F32", "-1", "0,4") + "}", 4), "non-negative whole number"},
      {"a size with a fraction", file_with("{" + tensor("a", "F32", "1.5", "0,4") + "}", 4), "got '.', want ']'"},
      {"a size over i64", file_with("{" + tensor("a", "F32", "9223372036854775808", "0,4") + "}", 4), "over 2^63 - 1"},
      {"a very long number", file_with("{" + tensor("a", "F32", repeated("9", 1'000'000), "0,4") + "}", 4), "2^63 - 1"},
      {"a leading zero", file_with("{" + tensor("a", "F32", "01", "0,4") + "}", 4), "leading zero"},
      {"a shape that overflows", file_with("{" + tensor("a", "F32", "4294967296,4294967296", "0,0") + "}", 0),
       "shape [4294967296,4294967296] has over 2^63 - 1 bytes"},
      {"an overflow hidden by a zero", file_with("{" + tensor("a", "F32", "4294967296,4294967296,0", "0,0") + "}", 0),
       "has over 2^63 - 1 bytes"},
      {"too many dims", file_with("{" + tensor("a", "F32", "1,1,1,1,1,1,1,1,1", "0,4") + "}", 4), "over 8 numbers"},
      {"one offset", file_with("{" + tensor("a", "F32", "1", "0") + "}", 4), "data_offsets are not two numbers"},
      {"begin after end", file_with("{" + tensor("a", "F32", "1", "4,0") + "}", 4), "begins at 4, after its end 0"},
      {"shape over the offsets", file_with("{" + tensor("a", "F32", "2", "0,4") + "}", 4),
       "tensor \"a\": F32 [2] has 8 bytes, but its data_offsets span 4"},
      {"offsets over the shape", file_with("{" + tensor("a", "BF16", "1", "0,4") + "}", 4), "BF16 [1] has 2 bytes"},
      {"an overlap", file_with("{" + f32 + "," + tensor("b", "F32", "1", "2,6") + "}", 6),
       "tensor \"b\": begins at 2 and overlaps the one before, which ends at 4"},
      {"the same bytes twice", file_with("{" + f32 + "," + tensor("b", "F32", "1", "0,4") + "}", 4), "overlaps"},
      {"a gap", file_with("{" + f32 + "," + tensor("b", "F32", "1", "8,12") + "}", 12),
       "tensor \"b\": begins at 8, but the one before ends at 4: a gap"},
      {"a gap at the begin", file_with("{" + tensor("a", "F32", "1", "4,8") + "}", 8), "a gap"},
      {"truncated data", file_with("{" + f32 + "}", 3), "tensor \"a\": ends at 4, but the file has 3 bytes of data"},
      {"trailing bytes", file_with("{" + f32 + "}", 5), "1 trailing bytes after the last tensor"},
      {"offsets of i64 max",
       file_with("{" + tensor("a", "U8", "9223372036854775807", "0,9223372036854775807") + "}", 4), "truncated"},
      {"a million tensors", file_with(a_million_tensors(), 0), "too many tensors or metadata"},
      {"a long name", file_with("{\"" + std::string(20 << 20, 'x') + "\":1}", 0), "a string of over 1024 bytes"},
      {"long metadata", file_with(R"({"__metadata__":{"a":")" + std::string(20 << 20, 'x') + "\"}}", 0),
       "a string of over 1048576 bytes"},
      {"much blank space", file_with(std::string(50 << 20, ' ') + "{}", 0), "over 1 MiB of blanks"},
  };
}

TEST(HostileSafetensors, EveryFileIsRefusedWithASentenceWithin8MiBAnd100Ms) {
  const TemporaryFolder folder;
  for (const Hostile& hostile : hostile_files()) {
    SCOPED_TRACE(hostile.what);
    testing::write_bytes(folder.file("x"), hostile.bytes);
    const size_t before = live_bytes;
    peak_bytes = before;
    const double start = thread_seconds();
    const absl::Status status = read_safetensors_header(folder.file("x")).status();
    const double elapsed = thread_seconds() - start;

    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(folder.file("x")), HasSubstr(hostile.complaint)));
    EXPECT_LT(peak_bytes - before, size_t{8} << 20);
    EXPECT_LT(elapsed, kSlowdown * 0.1);
  }
}

TEST(HostileSafetensors, ASparseFileOf8GiBWithABadHeaderCostsNothing) {
  const TemporaryFolder folder;
  testing::write_bytes(folder.file("x"), little_endian(99'999'999));
  ASSERT_EQ(::truncate(folder.file("x").c_str(), off_t{8} << 30), 0);  // the header is 100 MB of zeros
  const size_t before = live_bytes;
  peak_bytes = before;
  EXPECT_THAT(std::string(read_safetensors_header(folder.file("x")).status().message()),
              HasSubstr("got '\\000', want '{'"));
  EXPECT_LT(peak_bytes - before, size_t{1} << 20);
}

TEST(HostileSafetensors, AFolderAFifoAndAMissingFileAreNamed) {
  const TemporaryFolder folder;
  EXPECT_THAT(std::string(read_safetensors_header(folder.path()).status().message()), HasSubstr("not a regular file"));
  EXPECT_TRUE(absl::IsNotFound(read_safetensors_header(folder.file("none")).status()));
}

TEST(HostileSafetensors, AsManyTensorsAsThe235BModelHasAreRead) {
  // Expert by expert, as Hugging Face stores it: 94 layers of 128 experts with 3 matrices, and 9 other tensors each.
  std::string header = "{";
  for (int i = 0; i < 94 * (128 * 3 + 9) + 3; ++i) {
    header += tensor(absl::StrCat("model.layers.00.mlp.experts.000.down_proj.w", i), "F32", "0,1536", "0,0") + ",";
  }
  header.back() = '}';
  const TemporaryFolder folder;
  testing::write_bytes(folder.file("x"), file_with(header, 0));
  EXPECT_TRUE(read_safetensors_header(folder.file("x")).ok()) << read_safetensors_header(folder.file("x")).status();
}

TEST(HostileSafetensors, NoChangedByteOfAHeaderBreaksTheReader) {
  // Either refused or read as a file whose tensors lie inside it; sanitizers see the rest.
  const std::string good = file_with(
      R"({"__metadata__":{"k":"v"},)" + tensor("a", "F32", "1,2", "0,8") + "," + tensor("b", "I8", "3", "8,11") + "}",
      11);
  const TemporaryFolder folder;
  std::mt19937 random(1);
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = good;
    const int changes = 1 + static_cast<int>(random() % 3);
    for (int c = 0; c < changes; ++c) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (random() % 4 == 0) bytes.resize(random() % bytes.size());
    testing::write_bytes(folder.file("x"), bytes);
    const auto header = read_safetensors_header(folder.file("x"));
    if (!header.ok()) continue;
    for (const auto& [name, entry] : header->tensors) {
      ASSERT_GE(entry.begin, 0);
      ASSERT_LE(header->data_offset + entry.end, static_cast<int64_t>(bytes.size()));
      ASSERT_EQ(tensor_bytes(entry.dtype, entry.shape).value(), entry.end - entry.begin);
    }
  }
}

}  // namespace
}  // namespace qwen3::checkpoint
