#include "checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "checkpoint/model_json.h"
#include "tests/checkpoint/scene.h"

namespace qwen3::checkpoint {
namespace {

using testing::bytes_of;
using ::testing::HasSubstr;
using testing::ramp;
using testing::TemporaryFolder;

constexpr int64_t kRows = 7, kColumns = 3;

// Part of rank `index`: rows [begin, end) of one [7, 3] tensor.
Manifest part(int index, int64_t begin, int64_t end) {
  const std::vector<float> values = ramp((end - begin) * kColumns, 0.5F + static_cast<float>(begin * kColumns));
  const std::string file = absl::StrCat("rank-", index, ".safetensors");
  Manifest manifest;
  manifest.run = {.step = 10, .tokens = 99, .model_json = "{\"dim\":3}", .spec_json = "{}", .first_loss = 7.25};
  manifest.mesh = {1, 1, 2, 1, 1, 1};
  manifest.files[file] = {.size_bytes = 100, .xxh3_128 = {std::string(32, 'a')}};
  manifest.tensors["model.w"] = {.dtype = Dtype::kFloat32,
                                 .shape = {kRows, kColumns},
                                 .slices = {{file, "model.w", {{begin, 0}, {end - begin, kColumns}}}},
                                 .digest = digest_slice(bytes_of(values), 4, begin * kColumns)};
  return manifest;
}

std::string refusal(const std::vector<Manifest>& parts) {
  const auto merged = merge(parts);
  return merged.ok() ? "merged" : std::string(merged.status().message());
}

TEST(ManifestMerge, AnyCutGivesTheDigestOfTheWhole) {
  const std::string whole = merge({part(0, 0, kRows)})->state_digest;
  EXPECT_EQ(whole.size(), 64U);
  for (int64_t cut = 0; cut <= kRows; ++cut) {                          // the ends: a rank without a row
    const auto merged = merge({part(1, cut, kRows), part(0, 0, cut)});  // parts come in any order
    ASSERT_TRUE(merged.ok()) << merged.status();
    EXPECT_EQ(merged->state_digest, whole);
    EXPECT_EQ(merged->tensors.at("model.w").slices.front().box.begin[0], 0);
  }
}

TEST(ManifestMerge, ElementsThatAreMissingOrTwiceAreNamed) {
  EXPECT_THAT(refusal({part(0, 0, 3), part(1, 4, 7)}), HasSubstr("tensor \"model.w\": 3 of 21 elements are missing"));
  EXPECT_THAT(refusal({part(0, 1, 7)}), HasSubstr("tensor \"model.w\": 3 of 21 elements are missing"));
  EXPECT_THAT(refusal({part(0, 0, 4), part(1, 3, 7)}),
              HasSubstr("tensor \"model.w\": elements [1,3] from [3,0] are there twice"));
  EXPECT_THAT(refusal({part(0, 0, 7), part(1, 0, 7)}), HasSubstr("again in rank-1.safetensors"));
  EXPECT_THAT(refusal({part(0, 0, 8)}), HasSubstr("slice [8,3] from [0,0]"));
  EXPECT_THAT(refusal({}), HasSubstr("no parts"));
}

// Part of rank `index`: a box of one [7, 3] tensor, of which element i is i + 0.5.
Manifest box_part(int index, const spec::Box& box) {
  Manifest manifest = part(index, 0, 0);
  std::vector<float> values;
  for (int64_t row = 0; row < box.shape[0]; ++row) {
    for (int64_t column = 0; column < box.shape[1]; ++column) {
      values.push_back(0.5F + static_cast<float>((box.begin[0] + row) * kColumns + box.begin[1] + column));
    }
  }
  TensorRecord& record = manifest.tensors["model.w"];
  record.slices[0].box = box;
  record.digest = digest_box(bytes_of(values), 4, box, record.shape);
  return manifest;
}

TEST(ManifestMerge, BoxesMustTileTheTensor) {
  const std::string whole = merge({part(0, 0, kRows)})->state_digest;
  const Manifest left = box_part(0, {{0, 0}, {7, 2}}), top = box_part(1, {{0, 2}, {4, 1}}),
                 bottom = box_part(2, {{4, 2}, {3, 1}});
  ASSERT_TRUE(merge({bottom, left, top}).ok()) << merge({bottom, left, top}).status();
  EXPECT_EQ(merge({bottom, left, top})->state_digest, whole);
  EXPECT_THAT(refusal({left, top}), HasSubstr("3 of 21 elements are missing"));
  EXPECT_THAT(refusal({left, top, box_part(2, {{3, 2}, {4, 1}})}),
              HasSubstr("elements [1,1] from [3,2] are there twice"));
  EXPECT_THAT(refusal({left, top, box_part(2, {{4, 2}, {3, 2}})}), HasSubstr("slice [3,2] from [4,2]"));
  EXPECT_THAT(refusal({left, top, box_part(2, {{-1, 2}, {3, 1}})}), HasSubstr("slice [3,1] from [-1,2]"));
}

TEST(ManifestMerge, PartsOfUnlikeRunsAreRefused) {
  const Manifest first = part(0, 0, 3);
  const auto with = [&](const std::function<void(Manifest&)>& change) {
    Manifest second = part(1, 3, 7);
    change(second);
    return refusal({first, second});
  };
  EXPECT_THAT(with([](Manifest& m) { m.run.step = 11; }), HasSubstr("run: step is 11 in part 1, but 10 in part 0"));
  EXPECT_THAT(with([](Manifest& m) { m.run.tokens = 1; }), HasSubstr("run: tokens is 1"));
  EXPECT_THAT(with([](Manifest& m) { m.run.model_json = "{}"; }), HasSubstr("run: model is {}"));
  EXPECT_THAT(with([](Manifest& m) { m.mesh = {2}; }), HasSubstr("run: mesh is 2 in part 1, but 1x1x2x1x1x1"));
  EXPECT_THAT(with([](Manifest& m) { m.ordered = true; }), HasSubstr("run: ordered"));
  EXPECT_THAT(with([](Manifest& m) { m.tensors["model.w"].dtype = Dtype::kFloat16; }),
              HasSubstr("tensor \"model.w\": F16 [7,3] in one part, F32 [7,3] in another"));
  EXPECT_THAT(with([](Manifest& m) { m.tensors["model.w"].shape = {7, 4}; }), HasSubstr("F32 [7,4] in one part"));
  EXPECT_THAT(with([](Manifest& m) { m.tensors["model.w"].slices[0].file = "other"; }),
              HasSubstr("is in other, which is no listed file"));
  EXPECT_THAT(refusal({part(0, 0, 3), part(0, 3, 7)}), HasSubstr("file rank-0.safetensors: written by two parts"));
}

TEST(ManifestJson, IsReadBackExactly) {
  Manifest manifest = merge({part(0, 0, 3), part(1, 3, 7)}).value();
  manifest.ordered = true;
  manifest.run.last_loss = 0.1 + 0.2;  // needs 17 digits
  manifest.run.training_seconds = std::nan("");
  manifest.run.spec_json = "{\"name\": \"\u00fc \\\" line\\n\"}";
  const auto read = from_json(to_json(manifest));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(to_json(*read), to_json(manifest));
  EXPECT_EQ(read->run.last_loss, manifest.run.last_loss);
  EXPECT_TRUE(std::isnan(read->run.training_seconds));
  EXPECT_EQ(read->run.spec_json, manifest.run.spec_json);
  EXPECT_EQ(read->tensors.at("model.w").slices.size(), 2U);
}

// The text with a change and a checksum that fits it: what a hostile author can make.
std::string forged(const Manifest& manifest, const std::string& from, const std::string& to) {
  std::string text = absl::StrReplaceAll(to_json(manifest), {{from, to}});
  const size_t rest = text.find(",\n") + 2;
  const std::string digits = bytes_digest(std::string_view(text).substr(rest));
  return absl::StrCat("{\n\"xxh3_128\": \"", digits, "\",\n", text.substr(rest));
}

TEST(ManifestJson, AFileOutsideOfTheFolderIsRefused) {
  for (const char* name : {"../x", "/etc/passwd", "a/b", ".", "..", ".hidden", "", "manifest.json", "a\\u0000b"}) {
    const auto read = from_json(forged(part(0, 0, 7), "rank-0.safetensors", name));
    EXPECT_TRUE(absl::IsInvalidArgument(read.status())) << name << ": " << read.status();
    EXPECT_THAT(std::string(read.status().message()), HasSubstr("want a plain name")) << name;
  }
}

TEST(ManifestJson, TextThatIsNotOursIsRefusedWithTheReason) {
  const Manifest manifest = part(0, 0, 7);
  const auto message = [&](const std::string& from, const std::string& to) {
    const auto read = from_json(forged(manifest, from, to));
    return read.ok() ? "read" : std::string(read.status().message());
  };
  EXPECT_EQ(message("rank-0", "rank-9"), "read");  // forged() itself is right
  EXPECT_THAT(message("\"format\": 3", "\"format\": 2"), HasSubstr("format is 2, this version reads 3"));
  EXPECT_THAT(message("\"step\":10", "\"step\":-10"), HasSubstr("run.step is -10, want a whole number"));
  EXPECT_THAT(message("\"step\":10", "\"step\":1e1"), HasSubstr("run.step is 10.0, want a whole number"));
  EXPECT_THAT(message("\"step\":10", "\"steps\":10"), HasSubstr("key 'step' not found"));
  EXPECT_THAT(message("F32", "F31"), HasSubstr("tensor \"model.w\": dtype is \"F31\""));
  EXPECT_THAT(message("[7,3]", "[4294967296,4294967296]"), HasSubstr("has over 2^63 - 1 bytes"));
  EXPECT_THAT(message("\"run\"", "run"), HasSubstr("parse error"));
  EXPECT_TRUE(absl::IsDataLoss(from_json("").status()));
  EXPECT_TRUE(absl::IsDataLoss(from_json("{\"format\": 1}").status()));
}

TEST(ManifestJson, DigestsThatDoNotFitTheFileAreRefused) {
  const Manifest manifest = part(0, 0, 7);  // its file has 100 bytes: one chunk
  const auto message = [&](const std::string& from, const std::string& to) {
    const auto read = from_json(forged(manifest, from, to));
    EXPECT_EQ(read.ok(), !absl::IsInvalidArgument(read.status()));
    return read.ok() ? "read" : std::string(read.status().message());
  };
  const std::string chunk = "\"chunk_bytes\":4194304", size = "\"size_bytes\":100";
  EXPECT_EQ(message(chunk, "\"chunk_bytes\":100"), "read");
  EXPECT_EQ(message(chunk, "\"chunk_bytes\":67108864"), "read");
  const std::string file = "file \"rank-0.safetensors\": ";
  EXPECT_THAT(message(chunk, "\"chunk_bytes\":0"), HasSubstr(file + "chunk_bytes is 0, want from 1 to 67108864"));
  EXPECT_THAT(message(chunk, "\"chunk_bytes\":67108865"), HasSubstr("chunk_bytes is 67108865, want from 1 to"));
  EXPECT_THAT(message(chunk, "\"chunk_bytes\":-1"), HasSubstr(file + "chunk_bytes is -1, want a whole number"));
  EXPECT_THAT(message(chunk, "\"chunk_bytes\":9223372036854775808"), HasSubstr("want a whole number"));
  EXPECT_THAT(message(chunk, "\"chunk_bytes\":1.5"), HasSubstr("want a whole number"));
  EXPECT_THAT(message("\"chunk_bytes\"", "\"chunk\""), HasSubstr("key 'chunk_bytes' not found"));
  EXPECT_THAT(message(chunk, "\"chunk_bytes\":99"),
              HasSubstr(file + "has 1 digests, want 2 for 100 bytes in chunks of 99"));
  EXPECT_THAT(message(size, "\"size_bytes\":4194305"), HasSubstr("has 1 digests, want 2 for 4194305 bytes"));
  EXPECT_THAT(message(size, "\"size_bytes\":0"), HasSubstr("has 1 digests, want 0"));
  EXPECT_THAT(message(size, "\"size_bytes\":9223372036854775807"), HasSubstr("has 1 digests, want 2199023255552"));
  const std::string digest = absl::StrCat("\"", std::string(32, 'a'), "\"");
  EXPECT_THAT(message(digest, absl::StrCat(digest, ",", digest)), HasSubstr("has 2 digests, want 1"));
  EXPECT_THAT(message(digest, ""), HasSubstr("has 0 digests, want 1"));
  EXPECT_THAT(message(digest, "\"aa\""), HasSubstr(file + "digest is \"aa\", want 32"));
  EXPECT_THAT(message(absl::StrCat("[", digest, "]"), digest), HasSubstr(file + "xxh3_128 is not a list"));
}

TEST(ManifestJson, EveryFlippedBitIsFound) {
  std::string text = to_json(merge({part(0, 0, 3), part(1, 3, 7)}).value());
  for (size_t bit = 0; bit < text.size() * 8; ++bit) {
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
    ASSERT_FALSE(from_json(text).ok()) << "bit " << bit;
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
  }
  for (size_t size = 0; size < text.size(); ++size) {
    ASSERT_FALSE(from_json(text.substr(0, size)).ok()) << "truncated to " << size;
  }
}

TEST(Manifest, IsCommittedByOneRename) {
  const TemporaryFolder folder;
  EXPECT_TRUE(absl::IsNotFound(read_manifest(folder.path()).status()));
  const Manifest manifest = merge({part(0, 0, 7)}).value();
  testing::write_bytes(folder.file("rank-0.safetensors"), std::string(100, 'x'));
  ASSERT_TRUE(write_manifest(folder.path(), manifest).ok());
  EXPECT_THAT(testing::names_in(folder.path()), ::testing::ElementsAre("manifest.json", "rank-0.safetensors"));
  const auto read = read_manifest(folder.path());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->state_digest, manifest.state_digest);
}

TEST(Manifest, AFileOfAnotherSizeOrNoneOrALinkIsRefused) {
  const TemporaryFolder folder;
  ASSERT_TRUE(write_manifest(folder.path(), merge({part(0, 0, 7)}).value()).ok());
  EXPECT_TRUE(absl::IsDataLoss(read_manifest(folder.path()).status()));
  testing::write_bytes(folder.file("rank-0.safetensors"), std::string(99, 'x'));
  EXPECT_THAT(std::string(read_manifest(folder.path()).status().message()),
              HasSubstr("rank-0.safetensors: has 99 bytes, the manifest says 100"));
}

TEST(Manifest, ADigestThatDoesNotFollowFromTheTensorsIsRefused) {
  const TemporaryFolder folder;
  Manifest manifest = merge({part(0, 0, 7)}).value();
  manifest.tensors["model.w"].digest += Sum128{1, 0};
  testing::write_bytes(folder.file("rank-0.safetensors"), std::string(100, 'x'));
  ASSERT_TRUE(write_manifest(folder.path(), manifest).ok());
  EXPECT_THAT(std::string(read_manifest(folder.path()).status().message()), HasSubstr("state_digest is"));
}

TEST(ModelJson, WhatAnOlderTextLeavesOutIsNoDifference) {
  const spec::ModelShape mixture = *spec::find_flavor("debugmodel_moe");
  const auto difference_from = [&](const std::string& text) {
    return structural_difference(parse_model_json(text).value().shape, mixture);
  };
  const std::string older =
      R"({"dim":256,"layers":8,"heads":16,"kv_heads":8,"head_dim":128,"vocab":2048,"experts":64,"tied":false)";
  EXPECT_EQ(difference_from(older + "}"), "");
  EXPECT_EQ(difference_from(older + R"(,"experts_per_token":4})"), "experts_per_token is 4, the run wants 8");
  EXPECT_EQ(difference_from(model_json(mixture)), "");
}

}  // namespace
}  // namespace qwen3::checkpoint
