// Reading rows of a checkpoint that several ranks wrote, and finding every kind of corruption.
#include "checkpoint/reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "checkpoint/space.h"
#include "tests/checkpoint/scene.h"

namespace qwen3::checkpoint {
namespace {

using ::testing::AllOf;
using testing::bytes_of;
using ::testing::HasSubstr;
using testing::ramp;
using testing::TemporaryFolder;

constexpr int64_t kRows = 10, kColumns = 3;

// Commits a checkpoint of "model.w" = first, first + 1, ... and "model.norm" [rows], cut over ranks at `cuts` of rows.
void commit(const std::string& folder, const std::vector<int64_t>& cuts, float first = 0.5F, int64_t step = 1,
            int64_t columns_of_w = kColumns) {
  std::filesystem::create_directories(folder);
  const int64_t all_rows = cuts.back();
  const std::vector<float> w = ramp(all_rows * columns_of_w, first), norm = ramp(all_rows, first);
  std::vector<Manifest> parts;
  for (size_t rank = 0; rank + 1 < cuts.size(); ++rank) {
    const int64_t begin = cuts[rank], rows = cuts[rank + 1] - cuts[rank];
    const auto part_of = [&](const std::vector<float>& all, int64_t columns) {
      return bytes_of(all).subspan(static_cast<size_t>(begin * columns * 4), static_cast<size_t>(rows * columns * 4));
    };
    const std::string file = absl::StrCat("rank-", rank, ".safetensors");
    const TensorBytes tensors[] = {{"model.w", Dtype::kFloat32, {rows, columns_of_w}, part_of(w, columns_of_w)},
                                   {"model.norm", Dtype::kFloat32, {rows}, part_of(norm, 1)}};
    const auto written = write_safetensors(folder + "/" + file, tensors);
    ASSERT_TRUE(written.ok()) << written.status();
    Manifest part;
    part.run.step = step;
    part.files[file] = *written;
    part.tensors["model.w"] = {Dtype::kFloat32,
                               {all_rows, columns_of_w},
                               {{file, "model.w", {{begin, 0}, {rows, columns_of_w}}}},
                               digest_slice(part_of(w, columns_of_w), 4, begin * columns_of_w)};
    part.tensors["model.norm"] = {Dtype::kFloat32,
                                  {all_rows},
                                  {{file, "model.norm", {{begin}, {rows}}}},
                                  digest_slice(part_of(norm, 1), 4, begin)};
    parts.push_back(part);
  }
  const auto merged = merge(parts);
  ASSERT_TRUE(merged.ok()) << merged.status();
  ASSERT_TRUE(write_manifest(folder, *merged).ok());
}

// Reads everything, as a restore does.
absl::Status read_all(const std::string& folder) {
  const auto reader = Reader::open(folder);
  if (!reader.ok()) return reader.status();
  for (const auto& [name, tensor] : reader->manifest().tensors) {
    std::vector<std::byte> into(static_cast<size_t>(tensor_bytes(tensor.dtype, tensor.shape).value()));
    if (absl::Status status = reader->read_rows(name, 0, kRows, into); !status.ok()) return status;
  }
  return absl::OkStatus();
}

TEST(Reader, AnyRowsAreReadWhateverTheCut) {
  const std::vector<float> w = ramp(kRows * kColumns);
  for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{0, 10}, {0, 5, 10}, {0, 3, 6, 9, 10}, {0, 10, 10}}) {
    const TemporaryFolder folder;
    commit(folder.path(), cuts);
    const auto reader = Reader::open(folder.path());
    ASSERT_TRUE(reader.ok()) << reader.status();
    for (int64_t begin = 0; begin <= kRows; ++begin) {
      for (int64_t end = begin; end <= kRows; ++end) {
        std::vector<float> rows(static_cast<size_t>((end - begin) * kColumns));
        const auto into = std::as_writable_bytes(std::span(rows));
        ASSERT_TRUE(reader->read_rows("model.w", begin, end - begin, into).ok());
        ASSERT_THAT(rows, ::testing::ElementsAreArray(w.begin() + begin * kColumns, w.begin() + end * kColumns));
      }
    }
  }
}

TEST(Reader, AnyBoxIsReadWhateverTheChunks) {
  for (const int64_t chunk_bytes : {1, 7, 64, 100}) {
    SCOPED_TRACE(chunk_bytes);
    const TemporaryFolder folder;
    commit(folder.path(), {0, 4, 10});
    testing::cut_into_chunks(folder.path(), chunk_bytes);
    for (int64_t begin = 0; begin < kRows; ++begin) {
      for (int64_t rows = 1; rows <= kRows - begin; ++rows) {
        const auto reader = Reader::open(folder.path());  // anew: nothing is checked yet
        ASSERT_TRUE(reader.ok()) << reader.status();
        std::vector<float> got(static_cast<size_t>(rows * 2)), wanted;
        for (int64_t row = begin; row < begin + rows; ++row) {
          for (int64_t column = 1; column < 3; ++column) {
            wanted.push_back(0.5F + static_cast<float>(row * kColumns + column));
          }
        }
        const absl::Status status =
            reader->read_box("model.w", {{begin, 1}, {rows, 2}}, std::as_writable_bytes(std::span(got)));
        ASSERT_TRUE(status.ok()) << status;
        ASSERT_EQ(got, wanted) << rows << " rows from " << begin;
      }
    }
  }
}

TEST(Reader, TheManifestsDigestsAreThoseOfTheData) {
  const TemporaryFolder folder;
  commit(folder.path(), {0, 4, 10});
  const auto reader = Reader::open(folder.path());
  std::vector<std::byte> into(kRows * kColumns * 4);
  ASSERT_TRUE(reader->read_rows("model.w", 0, kRows, into).ok());
  EXPECT_EQ(digest_slice(into, 4, 0), reader->manifest().tensors.at("model.w").digest);
}

TEST(Reader, WrongRequestsAreRefused) {
  const TemporaryFolder folder;
  commit(folder.path(), {0, 10});
  const auto reader = Reader::open(folder.path());
  std::vector<std::byte> row(kColumns * 4);
  EXPECT_TRUE(absl::IsNotFound(reader->read_rows("model.v", 0, 1, row)));
  EXPECT_TRUE(absl::IsOutOfRange(reader->read_rows("model.w", kRows, 1, row)));
  EXPECT_TRUE(absl::IsOutOfRange(reader->read_rows("model.w", -1, 1, row)));
  EXPECT_TRUE(absl::IsOutOfRange(reader->read_rows("model.w", INT64_MAX, 1, row)));
  EXPECT_THAT(std::string(reader->read_rows("model.w", 0, 2, row).message()),
              HasSubstr("[2,3] from [0,0] has 24 bytes, got room for 12"));
}

TEST(Reader, ManyThreadsMayReadAtOnce) {
  const TemporaryFolder folder;
  commit(folder.path(), {0, 3, 7, 10});
  const auto reader = Reader::open(folder.path());
  std::atomic<int> right{0};
  {
    std::vector<std::jthread> threads;
    for (int64_t row = 0; row < kRows; ++row) {
      threads.emplace_back([&, row] {
        std::vector<float> values(kColumns);
        const bool ok = reader->read_rows("model.w", row, 1, std::as_writable_bytes(std::span(values))).ok();
        right += ok && values[0] == 0.5F + static_cast<float>(row * kColumns);
      });
    }
  }
  EXPECT_EQ(right, kRows);
}

TEST(Corruption, OneFlippedBitAnywhereIsFound) {
  const TemporaryFolder folder;
  commit(folder.path(), {0, 4, 10});
  ASSERT_TRUE(read_all(folder.path()).ok());
  const auto manifest = read_manifest(folder.path());
  ASSERT_TRUE(verify_files(folder.path(), *manifest).ok());

  const std::vector<std::string> names = testing::names_in(folder.path());
  ASSERT_EQ(names.size(), 3U);
  std::mt19937 random(7);
  for (int i = 0; i < 1000; ++i) {
    const std::string path = folder.file(names[random() % names.size()]);
    const std::string good = testing::read_bytes(path);
    std::string bad = good;
    const size_t bit = random() % (good.size() * 8);
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    testing::write_bytes(path, bad);
    ASSERT_FALSE(read_all(folder.path()).ok()) << path << " bit " << bit;
    const auto changed = read_manifest(folder.path());
    ASSERT_FALSE(changed.ok() && verify_files(folder.path(), *changed).ok()) << path << " bit " << bit;
    testing::write_bytes(path, good);
  }
  EXPECT_TRUE(read_all(folder.path()).ok());
}

TEST(Corruption, TruncatedEmptyAndMissingFilesAreFound) {
  const TemporaryFolder folder;
  commit(folder.path(), {0, 4, 10});
  for (const std::string& name : testing::names_in(folder.path())) {
    const std::string good = testing::read_bytes(folder.file(name));
    for (const size_t size : {good.size() - 1, good.size() / 2, size_t{8}, size_t{0}}) {
      testing::write_bytes(folder.file(name), good.substr(0, size));
      EXPECT_TRUE(absl::IsDataLoss(read_all(folder.path()))) << name << " " << read_all(folder.path());
    }
    testing::write_bytes(folder.file(name), good + "x");
    EXPECT_TRUE(absl::IsDataLoss(read_all(folder.path()))) << name << " " << read_all(folder.path());
    std::filesystem::remove(folder.file(name));
    EXPECT_FALSE(read_all(folder.path()).ok()) << name;
    EXPECT_EQ(absl::IsNotFound(read_all(folder.path())), name == kManifestName);  // only then it is no checkpoint
    testing::write_bytes(folder.file(name), good);
  }
}

TEST(Corruption, SwappedFilesAreFound) {
  const TemporaryFolder folder;
  commit(folder.path(), {0, 5, 10});  // two files of one size
  std::filesystem::rename(folder.file("rank-0.safetensors"), folder.file("x"));
  std::filesystem::rename(folder.file("rank-1.safetensors"), folder.file("rank-0.safetensors"));
  std::filesystem::rename(folder.file("x"), folder.file("rank-1.safetensors"));
  EXPECT_THAT(std::string(read_all(folder.path()).message()), HasSubstr("rank-0.safetensors: bytes 0 to "));
}

TEST(Corruption, FilesOrTheManifestOfAnotherStepAreFound) {
  const TemporaryFolder folder;
  commit(folder.file("old"), {0, 5, 10}, 0.5F, 1);
  commit(folder.file("new"), {0, 5, 10}, 0.25F, 2);
  const auto copy = [&](const std::string& name) {
    std::filesystem::copy_file(folder.file("old/" + name), folder.file("new/" + name),
                               std::filesystem::copy_options::overwrite_existing);
  };
  copy("rank-1.safetensors");
  EXPECT_TRUE(absl::IsDataLoss(read_all(folder.file("new"))));
  commit(folder.file("new"), {0, 5, 10}, 0.25F, 2);
  copy(kManifestName);
  EXPECT_TRUE(absl::IsDataLoss(read_all(folder.file("new"))));
}

TEST(Corruption, ALinkInPlaceOfAFileIsRefused) {
  const TemporaryFolder folder;
  commit(folder.path(), {0, 10});
  std::filesystem::rename(folder.file("rank-0.safetensors"), folder.file("x"));
  std::filesystem::create_symlink(folder.file("x"), folder.file("rank-0.safetensors"));
  EXPECT_THAT(std::string(read_all(folder.path()).message()), HasSubstr("is a symbolic link"));
}

TEST(Corruption, ASliceThatIsNotTheFilesTensorIsFound) {
  const TemporaryFolder folder;
  commit(folder.path(), {0, 10});
  Manifest manifest = read_manifest(folder.path()).value();
  manifest.tensors["model.w"].slices[0].key = "model.v";
  ASSERT_TRUE(write_manifest(folder.path(), manifest).ok());
  EXPECT_THAT(std::string(read_all(folder.path()).message()), HasSubstr("tensor \"model.v\": got no such tensor"));
  manifest.tensors["model.w"].slices[0].key = "model.norm";
  manifest.tensors["model.norm"].slices[0].key = "model.w";
  ASSERT_TRUE(write_manifest(folder.path(), manifest).ok());
  EXPECT_THAT(std::string(read_all(folder.path()).message()), HasSubstr("got F32 [10,3], the manifest says F32 [10]"));
}

constexpr int64_t kLargeRows = 3072, kLargeColumns = 1024;  // 4 KiB a row

// A file of four chunks. After a header of less than a row's bytes, rows [0, 1023) are in chunk 0 alone, [1024, 2047)
// in chunk 1, [2048, 3071) in chunk 2; the rows between them are cut.
class Chunks : public ::testing::Test {
 protected:
  void SetUp() override { commit(folder_.path(), {0, kLargeRows}, 0.5F, /*step=*/1, kLargeColumns); }

  // Changes a bit in place.
  void flip(int64_t offset) const {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(offset);
    const int byte = file.get();
    file.seekp(offset);
    file.put(static_cast<char>(byte ^ 1));
    ASSERT_TRUE(file.flush().good());
  }

  // "right", "wrong", or the error.
  static std::string read(const Reader& reader, const spec::Box& box) {
    std::vector<float> values(static_cast<size_t>(box.numel()));
    const absl::Status status = reader.read_box("model.w", box, std::as_writable_bytes(std::span(values)));
    if (!status.ok()) return status.ToString();
    for (int64_t i = 0; i < box.numel(); ++i) {
      const int64_t row = box.begin[0] + i / box.shape[1], column = box.begin[1] + i % box.shape[1];
      if (values[static_cast<size_t>(i)] != 0.5F + static_cast<float>(row * kLargeColumns + column)) return "wrong";
    }
    return "right";
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_.file("rank-0.safetensors");
};

TEST_F(Chunks, OnlyThoseOfTheHeaderAndTheBoxAreUsed) {
  flip(2 * kChunkBytes + 5);
  flip(3 * kChunkBytes + 5);
  const auto reader = Reader::open(folder_.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(read(*reader, {{1100, 100}, {900, 7}}), "right");
  const auto names_the_chunk =
      AllOf(HasSubstr("DATA_LOSS"), HasSubstr(path_ + ": bytes 8388608 to 12582912 have XXH3-128 "),
            HasSubstr(", the manifest says "));
  EXPECT_THAT(read(*reader, {{2100, 0}, {1, 1}}), names_the_chunk);
  EXPECT_THAT(read(*reader, {{2100, 0}, {1, 1}}), names_the_chunk);  // it stays so
  EXPECT_THAT(read(*reader, {{0, 0}, {kLargeRows, kLargeColumns}}), names_the_chunk);
  EXPECT_EQ(read(*reader, {{0, 0}, {2047, kLargeColumns}}), "right");
  std::vector<float> norm(1);
  EXPECT_THAT(
      std::string(
          reader->read_rows("model.norm", kLargeRows - 1, 1, std::as_writable_bytes(std::span(norm))).message()),
      HasSubstr(": bytes 12582912 to "));
  EXPECT_THAT(std::string(verify_files(folder_.path(), reader->manifest()).message()), HasSubstr("bytes 8388608 to"));
}

TEST_F(Chunks, TheOneOfTheHeaderIsAlwaysChecked) {
  flip(kChunkBytes - 1);  // not in the header itself
  const auto reader = Reader::open(folder_.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_THAT(read(*reader, {{1100, 0}, {1, 1}}), HasSubstr("bytes 0 to 4194304 have XXH3-128 "));
}

TEST_F(Chunks, NothingElseIsReadAndNothingTwiceWithoutNeed) {
  const auto reader = Reader::open(folder_.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  constexpr int64_t kLittle = 128 << 10;  // the header again, the last chunk, the counter itself
  const auto read_for = [&](const spec::Box& box) {
    const int64_t before = testing::bytes_read();
    EXPECT_EQ(read(*reader, box), "right");
    return testing::bytes_read() - before;
  };
  const int64_t first = read_for({{1100, 100}, {900, 7}});
  if (first < kChunkBytes) GTEST_SKIP() << "this kernel does not count what is read";
  EXPECT_LE(first, 2 * kChunkBytes + kLittle);  // of the header and of the box
  EXPECT_LE(read_for({{1100, 100}, {900, 7}}), 900 * 7 * 4 + kLittle);
  EXPECT_LE(read_for({{0, 0}, {kLargeRows, kLargeColumns}}), kLargeRows * kLargeColumns * 4 + kLittle);
}

TEST_F(Chunks, AFileThatShrinksIsFound) {
  const auto reader = Reader::open(folder_.path()), other = Reader::open(folder_.path());
  ASSERT_TRUE(reader.ok() && other.ok());
  EXPECT_EQ(read(*reader, {{0, 0}, {1, 1}}), "right");
  std::filesystem::resize_file(path_, 2 * kChunkBytes + 1000);
  EXPECT_THAT(read(*reader, {{2500, 0}, {1, 1}}),
              AllOf(HasSubstr("DATA_LOSS"), HasSubstr(path_ + ": ends at byte 8389608, want 4194304 bytes from")));
  EXPECT_THAT(read(*other, {{0, 0}, {1, 1}}),
              AllOf(HasSubstr("DATA_LOSS"), HasSubstr(path_ + ": has 8389608 bytes, the manifest says ")));
}

TEST_F(Chunks, ManyThreadsMayReadBoxesThatOverlap) {
  flip(2 * kChunkBytes + 5);
  const auto reader = Reader::open(folder_.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  constexpr int kThreads = 8, kBoxes = 40;
  std::atomic<int> as_wanted{0};
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        std::mt19937 random(static_cast<uint32_t>(thread));
        const auto up_to = [&](int64_t most) {
          return static_cast<int64_t>(random() % static_cast<uint64_t>(most + 1));
        };
        for (int i = 0; i < kBoxes; ++i) {
          const bool broken = up_to(3) == 0;  // in chunk 2 alone; else in chunks 0 and 1
          const int64_t first = broken ? 2048 : 0, end = broken ? 3071 : 2047;
          const int64_t rows = 1 + up_to(200), columns = 1 + up_to(kLargeColumns - 1);
          const std::string got =
              read(*reader, {{first + up_to(end - first - rows), up_to(kLargeColumns - columns)}, {rows, columns}});
          as_wanted += broken ? got.starts_with("DATA_LOSS") : got == "right";
        }
      });
    }
  }
  EXPECT_EQ(as_wanted, kThreads * kBoxes);
}

TEST(Space, AFolderThatCannotHoldItIsNamed) {
  const TemporaryFolder folder;
  EXPECT_TRUE(require_space(folder.path(), 1, "a checkpoint").ok());
  const absl::Status status = require_space(folder.path(), INT64_MAX, "a checkpoint");
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("but a checkpoint needs 9223372036854775807"));
  EXPECT_TRUE(absl::IsNotFound(free_bytes(folder.file("none")).status()));
}

}  // namespace
}  // namespace qwen3::checkpoint
