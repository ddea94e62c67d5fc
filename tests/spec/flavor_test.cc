#include "spec/flavor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace qwen3::spec {
namespace {

// Parameters of the published models (their safetensors' element counts) and of torchtitan's debug sizes.
const std::map<std::string, int64_t> kParameters = {
    {"debugmodel", 31'987'968},     {"0.6B", 596'049'920},           {"1.7B", 1'720'574'976},
    {"4B", 4'022'468'096},          {"8B", 8'190'735'360},           {"14B", 14'768'307'200},
    {"32B", 32'762'123'264},        {"debugmodel_moe", 315'758'848}, {"30B-A3B", 30'532'122'624},
    {"235B-A22B", 235'093'634'560},
};

TEST(Flavor, EverySizeHasExactlyThePublishedNumberOfParameters) {
  ASSERT_EQ(flavors().size(), kParameters.size());
  for (const ModelShape& shape : flavors()) {
    EXPECT_EQ(parameter_count(shape), kParameters.at(shape.flavor)) << shape.flavor;
  }
}

TEST(Flavor, HeadsAre128WideWhateverTheWidthOfTheModel) {
  for (const ModelShape& shape : flavors()) EXPECT_EQ(shape.head_dim, 128) << shape.flavor;
}

TEST(Flavor, OnlyTheSmallDenseSizesTieTheHeadToTheEmbedding) {
  std::vector<std::string> tied;
  for (const ModelShape& shape : flavors()) {
    if (shape.tied) tied.push_back(shape.flavor);
  }
  EXPECT_THAT(tied, testing::ElementsAre("debugmodel", "0.6B", "1.7B", "4B"));
}

TEST(Flavor, AnUnknownNameIsNull) {
  EXPECT_EQ(find_flavor("0.6b"), nullptr);
  ASSERT_NE(find_flavor("0.6B"), nullptr);
  EXPECT_EQ(find_flavor("0.6B")->dim, 1024);
}

TEST(Flavor, AnotherVocabularyChangesTheTiedTableOnce) {
  ModelShape shape = *find_flavor("debugmodel");
  shape.vocab = 151936;
  EXPECT_EQ(parameter_count(shape), 31'987'968 + (151936 - 2048) * 256);
}

}  // namespace
}  // namespace qwen3::spec
