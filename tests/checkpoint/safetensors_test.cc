// Writing and reading of well-formed files; hostile ones are in hostile_safetensors_test.cc.
#include "checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <csignal>

#include "absl/strings/str_format.h"
#include "tests/checkpoint/scene.h"

namespace qwen3::checkpoint {
namespace {

using testing::bytes_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ramp;
using testing::TemporaryFolder;

TEST(Safetensors, AFileHasTheBytesOfTheFormat) {
  const TemporaryFolder folder;
  const std::vector<float> a = {1.0F, -2.0F};
  const std::vector<uint8_t> b = {7};
  const TensorBytes tensors[] = {{"a", Dtype::kFloat32, {2}, bytes_of(a)}, {"b", Dtype::kUint8, {1, 1}, bytes_of(b)}};
  ASSERT_TRUE(write_safetensors(folder.file("x"), tensors, {{"k", "v"}}).ok());

  // Written by hand from the format's description; the header is padded with spaces to a multiple of 8.
  std::string header = R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                       R"("b":{"dtype":"U8","shape":[1,1],"data_offsets":[8,9]}})";
  while (header.size() % 8 != 0) header += ' ';
  std::string wanted(1, static_cast<char>(header.size()));
  wanted += std::string(7, '\0') + header + std::string("\0\0\x80\x3f\0\0\0\xc0\x07", 9);
  EXPECT_EQ(testing::read_bytes(folder.file("x")), wanted);
}

TEST(Safetensors, WhatIsWrittenIsReadBack) {
  const TemporaryFolder folder;
  const std::vector<float> a = ramp(12);
  const std::vector<float> none;
  const TensorBytes tensors[] = {{"model.a \"\\\n\u00e9", Dtype::kFloat32, {3, 4}, bytes_of(a)},
                                 {"empty", Dtype::kBfloat16, {0, 4}, bytes_of(none)},
                                 {"scalar", Dtype::kInt32, {}, bytes_of(a).first(4)}};
  ASSERT_TRUE(write_safetensors(folder.file("x"), tensors).ok());

  const auto header = read_safetensors_header(folder.file("x"));
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->tensors.size(), 3U);
  const TensorEntry& entry = header->tensors.at("model.a \"\\\n\u00e9");
  EXPECT_EQ(entry.dtype, Dtype::kFloat32);
  EXPECT_THAT(entry.shape, ElementsAre(3, 4));
  EXPECT_THAT(header->tensors.at("empty").shape, ElementsAre(0, 4));
  EXPECT_THAT(header->tensors.at("scalar").shape, ElementsAre());

  std::vector<float> row(4);
  const auto into = std::as_writable_bytes(std::span(row));
  ASSERT_TRUE(read_tensor_bytes(folder.file("x"), *header, "model.a \"\\\n\u00e9", 16, into).ok());
  EXPECT_THAT(row, ElementsAre(4.5F, 5.5F, 6.5F, 7.5F));
}

TEST(Safetensors, ReadsOutsideOfATensorAreRefused) {
  const TemporaryFolder folder;
  const std::vector<float> a = ramp(2);
  const TensorBytes tensors[] = {{"a", Dtype::kFloat32, {1}, bytes_of(a).first(4)},
                                 {"b", Dtype::kFloat32, {1}, bytes_of(a).first(4)}};
  ASSERT_TRUE(write_safetensors(folder.file("x"), tensors).ok());
  const auto header = read_safetensors_header(folder.file("x"));
  ASSERT_TRUE(header.ok());
  std::vector<std::byte> into(4);
  EXPECT_TRUE(absl::IsOutOfRange(read_tensor_bytes(folder.file("x"), *header, "a", 1, into)));
  EXPECT_TRUE(absl::IsOutOfRange(read_tensor_bytes(folder.file("x"), *header, "a", -4, into)));
  EXPECT_TRUE(absl::IsOutOfRange(read_tensor_bytes(folder.file("x"), *header, "a", INT64_MAX, into)));
  EXPECT_TRUE(absl::IsNotFound(read_tensor_bytes(folder.file("x"), *header, "c", 0, into)));
}

TEST(OutputFile, TheReportedDigestsAreTheXxh3OfTheChunks) {
  const TemporaryFolder folder;
  const std::vector<float> values = ramp(9 << 18);  // 9 MiB
  for (const int64_t bytes : {int64_t{0}, kChunkBytes - 1, 2 * kChunkBytes, 2 * kChunkBytes + 1}) {
    SCOPED_TRACE(bytes);
    auto file = OutputFile::create(folder.file("x"), bytes);
    ASSERT_TRUE(file.ok()) << file.status();
    constexpr size_t kAtOnce = 3'000'000;  // no piece ends where a chunk does
    for (auto rest = bytes_of(values).first(static_cast<size_t>(bytes)); !rest.empty();) {
      const size_t piece = std::min(rest.size(), kAtOnce);
      ASSERT_TRUE(file->append(rest.first(piece)).ok());
      rest = rest.subspan(piece);
    }
    const auto written = file->commit();
    ASSERT_TRUE(written.ok()) << written.status();

    const std::string text = testing::read_bytes(folder.file("x"));
    std::vector<std::string> wanted;
    for (size_t begin = 0; begin < text.size(); begin += kChunkBytes) {
      const size_t size = std::min<size_t>(kChunkBytes, text.size() - begin);
      const XXH128_hash_t hash = XXH3_128bits(text.data() + begin, size);
      wanted.push_back(absl::StrFormat("%016x%016x", hash.high64, hash.low64));
    }
    EXPECT_EQ(written->size_bytes, bytes);
    EXPECT_EQ(written->chunk_bytes, kChunkBytes);
    EXPECT_EQ(written->xxh3_128, wanted);
  }
}

TEST(Safetensors, TensorsThatDoNotMatchTheirShapeAreNotWritten) {
  const TemporaryFolder folder;
  const std::vector<float> a = ramp(2);
  const auto refusal = [&](std::vector<TensorBytes> tensors) {
    return std::string(write_safetensors(folder.file("x"), tensors).status().message());
  };
  EXPECT_THAT(refusal({{"a", Dtype::kFloat32, {3}, bytes_of(a)}}),
              HasSubstr("tensor \"a\": F32 [3] has 12 bytes, got 8"));
  EXPECT_THAT(refusal({{"a", Dtype::kFloat32, {2}, bytes_of(a)}, {"a", Dtype::kFloat32, {2}, bytes_of(a)}}),
              HasSubstr("used twice"));
  EXPECT_THAT(refusal({{"__metadata__", Dtype::kFloat32, {2}, bytes_of(a)}}), HasSubstr("reserved"));
  EXPECT_THAT(refusal({{"\xff", Dtype::kFloat32, {2}, bytes_of(a)}}), HasSubstr("UTF-8"));
  EXPECT_THAT(testing::names_in(folder.path()), ElementsAre());
}

TEST(Safetensors, AFailedWriteLeavesTheOldFileAndNothingElse) {
  const TemporaryFolder folder;
  testing::write_bytes(folder.file("x"), "old");
  const std::vector<float> a = ramp(1 << 18);
  const TensorBytes tensors[] = {{"a", Dtype::kFloat32, {1 << 18}, bytes_of(a)}};
  // A limit on file size stands for a full disk (EFBIG and ENOSPC take the same path); in a child, since it is lasting.
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const absl::Status status = write_safetensors(folder.file("x"), tensors).status();
    const std::string message(status.message());
    const bool named =
        message.find(folder.file("x")) != std::string::npos && message.find("10486") != std::string::npos;
    ::_exit(absl::IsResourceExhausted(status) && named ? 0 : 1);
  }
  int exit_status = -1;
  ASSERT_EQ(::waitpid(child, &exit_status, 0), child);
  EXPECT_EQ(exit_status, 0);
  EXPECT_EQ(testing::read_bytes(folder.file("x")), "old");
  EXPECT_THAT(testing::names_in(folder.path()), ElementsAre("x"));
}

}  // namespace
}  // namespace qwen3::checkpoint
