// Hugging Face folders as a source of weights: all the layouts and dtypes that transformers writes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "checkpoint/float_conversion.h"
#include "checkpoint/hf/names.h"
#include "checkpoint/hf/reader.h"
#include "checkpoint/manifest.h"
#include "spec/parameters.h"
#include "tests/checkpoint/hf_scene.h"
#include "tests/checkpoint/scene.h"

namespace qwen3::checkpoint {
namespace {

using testing::count_of;
using ::testing::HasSubstr;
using testing::hf_scene;
using testing::HfLayout;
using testing::HfScene;
using testing::TemporaryFolder;
using testing::tiny_dense;
using testing::tiny_moe;

std::vector<float> read(const TensorSource& source, const std::string& name, int64_t row, int64_t rows,
                        int64_t row_size) {
  std::vector<float> values(static_cast<size_t>(rows * row_size));
  const absl::Status status =
      source.read_rows(name, row, rows, std::as_writable_bytes(std::span(values)), Dtype::kFloat32);
  EXPECT_TRUE(status.ok()) << status;
  return values;
}

// Every tensor of the source, whole and row by row, is the scene's.
void expect_scene(const TensorSource& source, const spec::ModelShape& model) {
  const std::vector<spec::ParameterShape> wanted = spec::parameters(model);
  ASSERT_EQ(source.tensors().size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    SCOPED_TRACE(wanted[i].name);
    EXPECT_EQ(source.tensors()[i].name, wanted[i].name);
    EXPECT_EQ(source.tensors()[i].shape, wanted[i].shape);
    const int64_t rows = wanted[i].shape[0], row_size = count_of(wanted[i].shape) / rows;
    EXPECT_EQ(read(source, wanted[i].name, 0, rows, row_size),
              testing::weight_values(wanted[i].name, 0, rows * row_size));
    const int64_t row = rows / 2;
    EXPECT_EQ(read(source, wanted[i].name, row, rows - row, row_size),
              testing::weight_values(wanted[i].name, row * row_size, (rows - row) * row_size));
  }
}

TEST(HfReader, DenseFoldersOfAnyDtypeAreReadWhole) {
  for (const bool tied : {true, false}) {
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16}) {
      const TemporaryFolder folder;
      hf_scene(tiny_dense(tied), dtype).write(folder.path());
      const auto reader = HfReader::open(folder.path());
      ASSERT_TRUE(reader.ok()) << reader.status();
      EXPECT_EQ((*reader)->tensors()[3].dtype, dtype);
      EXPECT_EQ((*reader)->model().tied, tied);
      expect_scene(**reader, tiny_dense(tied));
    }
  }
}

TEST(HfReader, ExpertsAreReadFromBothLayoutsInOneFileOrMany) {
  for (const HfLayout layout : {HfLayout::kVersion4, HfLayout::kVersion5}) {
    for (const int files : {1, 3}) {
      const TemporaryFolder folder;
      HfScene scene = hf_scene(tiny_moe(), Dtype::kBfloat16, layout);
      if (files > 1) scene.cut_into_files(files);
      scene.write(folder.path());
      const auto reader = HfReader::open(folder.path());
      ASSERT_TRUE(reader.ok()) << reader.status();
      EXPECT_EQ((*reader)->files(), files);
      expect_scene(**reader, tiny_moe());
    }
  }
}

TEST(HfReader, RowsComeInTheDtypeThatIsAskedFor) {
  const TemporaryFolder folder;
  hf_scene(tiny_moe(), Dtype::kFloat16, HfLayout::kVersion5).write(folder.path());
  const auto reader = HfReader::open(folder.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  const std::string name = "layers.1.moe.experts.w3";
  const int64_t row_size = 6 * 8;
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16, Dtype::kFloat64}) {
    std::string bytes(static_cast<size_t>(2 * row_size * item_size(dtype)), '\0');
    ASSERT_TRUE((*reader)->read_rows(name, 3, 2, std::as_writable_bytes(std::span(bytes)), dtype).ok());
    EXPECT_EQ(bytes, testing::encode(testing::weight_values(name, 3 * row_size, 2 * row_size), dtype));
  }
}

TEST(HfReader, DtypesMayBeMixed) {
  const TemporaryFolder folder;
  HfScene scene = hf_scene(tiny_moe());
  const std::string name = "model.layers.0.mlp.experts.2.up_proj.weight";
  scene.tensor(name).dtype = Dtype::kFloat32;
  scene.tensor(name).bytes =
      testing::encode(testing::weight_values("layers.0.moe.experts.w3", 2 * 48, 48), Dtype::kFloat32);
  scene.write(folder.path());
  const auto reader = HfReader::open(folder.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->find("layers.0.moe.experts.w3")->dtype, Dtype::kFloat32);
  EXPECT_EQ((*reader)->find("layers.0.moe.experts.w1")->dtype, Dtype::kBfloat16);
  expect_scene(**reader, tiny_moe());
}

TEST(HfReader, ATiedModelMayHaveItsHeadASecondTime) {
  const TemporaryFolder folder;
  HfScene scene = hf_scene(tiny_dense(true), Dtype::kBfloat16, HfLayout::kVersion4, /*tied_head=*/true);
  scene.write(folder.file("same"));
  const auto same = HfReader::open(folder.file("same"));
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_TRUE((*same)->tied_head());
  expect_scene(**same, tiny_dense(true));

  std::string& bytes = scene.tensor("lm_head.weight").bytes;
  bytes[bytes.size() / 2] ^= 1;
  scene.write(folder.file("other"));
  const auto other = HfReader::open(folder.file("other"));
  ASSERT_TRUE(other.ok()) << other.status();
  std::vector<std::byte> rows(300 * 8 * 4);
  const absl::Status status = (*other)->read_rows("tok_embeddings.weight", 0, 300, rows, Dtype::kFloat32);
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("\"lm_head.weight\" differs from \"model.embed_tokens.weight\""));
}

TEST(HfReader, RotaryFrequenciesOfOldExportsAreIgnored) {
  const TemporaryFolder folder;
  HfScene scene = hf_scene(tiny_dense(true));
  for (const char* name : {"model.rotary_emb.inv_freq", "model.layers.0.self_attn.rotary_emb.inv_freq"}) {
    scene.tensors.push_back({name, Dtype::kFloat32, {2}, std::string(8, '\0'), "model.safetensors"});
  }
  scene.write(folder.path());
  EXPECT_TRUE(HfReader::open(folder.path()).ok()) << HfReader::open(folder.path()).status();
}

TEST(HfReader, ASnapshotOfHuggingFacesCacheIsReadThroughItsLinks) {
  const TemporaryFolder folder;
  const std::string snapshot = folder.file("models--Qwen--Qwen3/snapshots/0123");
  hf_scene(tiny_dense(true)).write(snapshot);
  std::filesystem::create_directories(folder.file("models--Qwen--Qwen3/blobs"));
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::rename(snapshot + "/" + name, folder.file("models--Qwen--Qwen3/blobs/") + name + "-hash");
    std::filesystem::create_symlink(absl::StrCat("../../blobs/", name, "-hash"), snapshot + "/" + name);
  }
  const auto reader = HfReader::open(snapshot);
  ASSERT_TRUE(reader.ok()) << reader.status();
  expect_scene(**reader, tiny_dense(true));
}

TEST(HfReader, RowsThatAreNotThereAndRoomOfAnotherSizeAreNamed) {
  const TemporaryFolder folder;
  hf_scene(tiny_dense(true)).write(folder.path());
  const auto reader = HfReader::open(folder.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::vector<std::byte> row(8 * 4);
  EXPECT_TRUE(absl::IsNotFound((*reader)->read_rows("lm_head.weight", 0, 1, row, Dtype::kFloat32)));
  EXPECT_TRUE(absl::IsOutOfRange((*reader)->read_rows("tok_embeddings.weight", 300, 1, row, Dtype::kFloat32)));
  EXPECT_TRUE(absl::IsOutOfRange((*reader)->read_rows("tok_embeddings.weight", -1, 1, row, Dtype::kFloat32)));
  EXPECT_TRUE(absl::IsInvalidArgument((*reader)->read_rows("tok_embeddings.weight", 0, 2, row, Dtype::kFloat32)));
}

}  // namespace
}  // namespace qwen3::checkpoint
