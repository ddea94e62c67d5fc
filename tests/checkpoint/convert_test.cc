// Hugging Face -> checkpoint of ours -> Hugging Face gives every tensor back, bit for bit.
#include "checkpoint/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>

#include "absl/strings/str_cat.h"
#include "checkpoint/hf/names.h"
#include "checkpoint/hf/reader.h"
#include "checkpoint/manifest.h"
#include "checkpoint/native_source.h"
#include "tests/checkpoint/hf_scene.h"
#include "tests/checkpoint/scene.h"

namespace qwen3::checkpoint {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::hf_scene;
using testing::HfLayout;
using testing::HfScene;
using ::testing::IsEmpty;
using testing::TemporaryFolder;
using testing::tiny_dense;
using testing::tiny_moe;

// All tensors of the folder's safetensors files: name -> dtype, shape and bytes.
std::map<std::string, std::string> contents(const std::string& folder) {
  std::map<std::string, std::string> all;
  for (const std::string& name : testing::names_in(folder)) {
    if (!name.ends_with(".safetensors")) continue;
    const std::string path = folder + "/" + name;
    const SafetensorsHeader header = read_safetensors_header(path).value();
    for (const auto& [tensor, entry] : header.tensors) {
      std::string bytes(static_cast<size_t>(entry.end - entry.begin), '\0');
      EXPECT_TRUE(read_tensor_bytes(path, header, tensor, 0, std::as_writable_bytes(std::span(bytes))).ok());
      const std::string what = absl::StrCat(dtype_name(entry.dtype), " ", entry.shape.size(), " dims ");
      EXPECT_TRUE(all.emplace(tensor, what + bytes).second) << tensor << " is stored twice";
    }
  }
  return all;
}

class Conversion : public ::testing::Test {
 protected:
  Place hf(const std::string& name) { return {Format::kHf, folder_.file(name)}; }
  Place native(const std::string& name) { return {Format::kNative, folder_.file(name)}; }
  ConvertReport run(const Place& from, const Place& to, const ConvertOptions& options = {}) {
    const auto report = convert(from, to, options);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *report : ConvertReport{};
  }
  std::string complaint(const Place& from, const Place& to, const ConvertOptions& options = {}) {
    return std::string(convert(from, to, options).status().message());
  }
  std::map<std::string, std::string> contents_of(const std::string& name) { return contents(folder_.file(name)); }

  TemporaryFolder folder_;
};

TEST_F(Conversion, ThereAndBackIsBitwiseForEveryKindOfFolder) {
  int number = 0;
  for (const spec::ModelShape& model : {tiny_dense(true), tiny_dense(false), tiny_moe()}) {
    for (const Dtype dtype : {Dtype::kBfloat16, Dtype::kFloat16, Dtype::kFloat32}) {
      for (const bool tied_head : {false, true}) {
        if (tied_head && !model.tied) continue;
        const std::string id = absl::StrCat(number++);
        SCOPED_TRACE(id);
        HfScene scene = hf_scene(model, dtype, HfLayout::kVersion4, tied_head);
        scene.cut_into_files(3);
        scene.write(folder_.file("from" + id));
        const ConvertReport there = run(hf("from" + id), native("native" + id));
        const ConvertReport back = run(native("native" + id), hf("to" + id));
        EXPECT_EQ(contents_of("to" + id), contents_of("from" + id));
        EXPECT_EQ(there.tensors, static_cast<int64_t>(scene.tensors.size()));
        EXPECT_EQ(there.weights_digest, back.weights_digest);
        EXPECT_EQ(testing::read_bytes(folder_.file("to" + id + "/config.json")),
                  testing::read_bytes(folder_.file("from" + id + "/config.json")));
        for (const Place& place : {hf("from" + id), native("native" + id), hf("to" + id)}) {
          const auto verified = verify(place);
          ASSERT_TRUE(verified.ok()) << verified.status();
          EXPECT_THAT(verified->problems, IsEmpty());
          EXPECT_EQ(verified->weights_digest, there.weights_digest);
        }
      }
    }
  }
}

TEST_F(Conversion, EveryFlavorKeepsItsNamesAndIndexWithAllLayersAndReducedSizes) {
  const std::map<std::string, size_t> wanted = {{"8B", 399}, {"30B-A3B", 18867}, {"235B-A22B", 94 * (128 * 3 + 9) + 3}};
  for (const spec::ModelShape& flavor : spec::flavors()) {
    SCOPED_TRACE(flavor.flavor);
    // All layers, heads and experts of the flavor; the sizes that only make tensors larger are cut down.
    spec::ModelShape model = flavor;
    model.dim = 2;
    model.head_dim = 2;
    model.vocab = 5;
    (model.experts > 0 ? model.expert_hidden : model.ffn_hidden) = 1;
    HfScene scene = hf_scene(model);
    scene.write(folder_.file("from"));
    run(hf("from"), native("native"), {.max_file_bytes = 100'000});
    run(native("native"), hf("to"), {.max_file_bytes = 100'000});
    EXPECT_EQ(contents_of("to"), contents_of("from"));
    if (const auto found = wanted.find(flavor.flavor); found != wanted.end()) {
      EXPECT_EQ(scene.tensors.size(), found->second);
    }
    const auto index = nlohmann::json::parse(testing::names_in(folder_.file("to")).size() > 2
                                                 ? testing::read_bytes(folder_.file("to/model.safetensors.index.json"))
                                                 : "{}");
    if (index.contains("weight_map")) EXPECT_EQ(index["weight_map"].size(), scene.tensors.size());
    // Names and shapes at full size.
    int64_t elements = 0;
    for (const HfTensor& tensor : hf_tensors(flavor)) {
      elements += testing::count_of(tensor.shape);
      const auto target = find_hf_name(flavor, tensor.name);
      ASSERT_TRUE(target.has_value()) << tensor.name;
      ASSERT_EQ(target->shape, tensor.shape) << tensor.name;
    }
    EXPECT_EQ(elements, spec::parameter_count(flavor));
  }
}

TEST_F(Conversion, FusedExpertsBecomeAMatrixForEachExpert) {
  hf_scene(tiny_moe(), Dtype::kBfloat16, HfLayout::kVersion5).write(folder_.file("five"));
  hf_scene(tiny_moe(), Dtype::kBfloat16, HfLayout::kVersion4).write(folder_.file("four"));
  run(hf("five"), native("native"));
  run(native("native"), hf("to"));
  EXPECT_EQ(contents_of("to"), contents_of("four"));
  run(hf("five"), hf("direct"));
  EXPECT_EQ(contents_of("direct"), contents_of("four"));
}

TEST_F(Conversion, ANativeResultIsACommittedCheckpointWithTheFoldersModel) {
  HfScene scene = hf_scene(tiny_dense(true));
  scene.config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}};
  scene.config["rms_norm_eps"] = 1e-5;
  scene.write(folder_.file("from"));
  testing::write_bytes(folder_.file("from/tokenizer.json"), "{\"mine\": 1}");
  run(hf("from"), native("native"));
  EXPECT_THAT(testing::names_in(folder_.file("native")),
              ElementsAre("hf", "manifest.json", "weights-00001-of-00001.safetensors"));
  EXPECT_THAT(testing::names_in(folder_.file("native/hf")), ElementsAre("config.json", "tokenizer.json"));
  const auto source = NativeSource::open(folder_.file("native"));
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->manifest().run.step, 0);
  EXPECT_EQ((*source)->model().norm_eps, 1e-5);
  EXPECT_EQ((*source)->model().yarn->factor, 4);
  EXPECT_EQ((*source)->find("layers.0.attention.wq.weight")->dtype, Dtype::kFloat32);

  run(native("native"), hf("to"), {.dtype = "float32"});
  EXPECT_EQ(testing::read_bytes(folder_.file("to/tokenizer.json")), "{\"mine\": 1}");
  const auto config = nlohmann::json::parse(testing::read_bytes(folder_.file("to/config.json")));
  EXPECT_EQ(config["torch_dtype"], "float32");
  EXPECT_EQ(config["rope_scaling"]["factor"], 4);
  EXPECT_EQ(config["rms_norm_eps"], 1e-5);
}

TEST_F(Conversion, Version5sRotaryParametersAreWrittenSoThatVersion4ReadsThem) {
  HfScene scene = hf_scene(tiny_dense(true));
  scene.config.erase("rope_theta");
  scene.config.erase("rope_scaling");
  scene.config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e5}};
  scene.write(folder_.file("from"));
  run(hf("from"), hf("to"));
  const auto config = nlohmann::json::parse(testing::read_bytes(folder_.file("to/config.json")));
  EXPECT_EQ(config["rope_theta"], 5e5);
  EXPECT_TRUE(config["rope_scaling"].is_null());
  EXPECT_FALSE(config.contains("rope_parameters"));
}

TEST_F(Conversion, ProgressCountsTheBytesAndACancelledRunLeavesNothing) {
  hf_scene(tiny_moe()).write(folder_.file("from"));
  std::vector<int64_t> done;
  int64_t total = 0;
  ConvertOptions options;
  options.progress.report = [&](int64_t bytes, int64_t of) {
    done.push_back(bytes);
    total = of;
  };
  const ConvertReport report = run(hf("from"), native("native"), options);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.back(), total);
  EXPECT_EQ(total, report.bytes);
  EXPECT_EQ(report.bytes, 2 * spec::parameter_count(tiny_moe()));

  int asked = 0;
  options.progress.cancelled = [&] { return ++asked > 3; };
  EXPECT_TRUE(absl::IsCancelled(convert(hf("from"), native("other"), options).status()));
  EXPECT_THAT(testing::names_in(folder_.path()), ElementsAre("from", "native"));
}

TEST_F(Conversion, WhatARunThatDiedLeftIsReplacedAndAnythingElseIsKept) {
  hf_scene(tiny_dense(true)).write(folder_.file("from"));
  std::filesystem::create_directories(folder_.file("native.tmp"));
  testing::write_bytes(folder_.file("native.tmp/weights-00001-of-00009.safetensors"), "half");
  run(hf("from"), native("native"));
  run(hf("from"), native("native"));  // an earlier result is replaced
  EXPECT_THAT(testing::names_in(folder_.path()), ElementsAre("from", "native"));

  std::filesystem::create_directories(folder_.file("thesis"));
  testing::write_bytes(folder_.file("thesis/text"), "years of work");
  EXPECT_THAT(complaint(hf("from"), native("thesis")), HasSubstr("no earlier result of this kind"));
  EXPECT_THAT(complaint(hf("from"), native("from")), HasSubstr("is the folder to be read"));
  EXPECT_THAT(complaint(hf("from"), hf("native")), HasSubstr("it has no config.json"));
  EXPECT_THAT(complaint(hf("from"), native("x"), {.dtype = "bfloat16"}), HasSubstr("always float32"));
  EXPECT_THAT(complaint(hf("from"), hf("x"), {.dtype = "int8"}), HasSubstr("dtype is \"int8\", want float32"));
  EXPECT_THAT(testing::names_in(folder_.path()), ElementsAre("from", "native", "thesis"));
}

TEST_F(Conversion, VerifyNamesWhatIsBroken) {
  HfScene scene = hf_scene(tiny_dense(true), Dtype::kFloat32);
  const float infinite = std::numeric_limits<float>::infinity();
  scene.tensor("model.layers.1.mlp.up_proj.weight").bytes.replace(8, 4, reinterpret_cast<const char*>(&infinite), 4);
  scene.write(folder_.file("from"));
  EXPECT_THAT(verify(hf("from"))->problems,
              ElementsAre("tensor \"layers.1.feed_forward.w3.weight\": 1 values are infinite or not a number"));
  run(hf("from"), native("native"));
  std::string bytes = testing::read_bytes(folder_.file("native/weights-00001-of-00001.safetensors"));
  bytes[bytes.size() - 5] ^= 1;
  testing::write_bytes(folder_.file("native/weights-00001-of-00001.safetensors"), bytes);
  EXPECT_THAT(verify(native("native"))->problems,
              ElementsAre(HasSubstr("weights-00001-of-00001.safetensors: bytes 0 to ")));
  scene.remove("model.norm.weight");
  scene.write(folder_.file("from"));
  EXPECT_THAT(verify(hf("from"))->problems, Contains(HasSubstr("tensor \"model.norm.weight\" is missing")));
  EXPECT_TRUE(absl::IsNotFound(verify(hf("nowhere")).status()));
}

}  // namespace
}  // namespace qwen3::checkpoint
