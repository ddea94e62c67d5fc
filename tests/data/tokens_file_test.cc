// Tokens files: what they mean, and how each mistake is named.
#include "worker/rank/data/tokens_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <span>
#include <stdexcept>

#include "checkpoint/safetensors.h"
#include "tests/data/scene.h"

namespace qwen3::data {
namespace {

using checkpoint::Dtype;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<int64_t> values;
  Dtype dtype = Dtype::kInt64;
};

class TokensFileTest : public ::testing::Test {
 protected:
  std::shared_ptr<const Dataset> open(const std::vector<Tensor>& tensors) {
    std::vector<checkpoint::TensorBytes> bytes;
    for (const Tensor& tensor : tensors) {
      bytes.push_back({tensor.name, tensor.dtype, tensor.shape, std::as_bytes(std::span(tensor.values))});
    }
    const auto written = checkpoint::write_safetensors(path_, bytes);
    EXPECT_TRUE(written.ok()) << written.status();
    return open_tokens_file(path_, {.vocab = 10, .longest = 4});
  }

  std::string error(const std::vector<Tensor>& tensors) {
    try {
      open(tensors);
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "no error";
  }

  Scene scene_;
  std::string path_ = scene_.path("tokens.safetensors");
};

TEST_F(TokensFileTest, LabelsAreTheNextIdsAndPositionsCountUnlessGiven) {
  const auto plain = open({{"ids", {2, 3}, {1, 2, 3, 4, 5, 6}}});
  EXPECT_EQ(plain->sequences(), 2);
  EXPECT_EQ(plain->tokens(), 6);
  EXPECT_THAT(plain->at(1).ids, ElementsAre(4, 5, 6));
  EXPECT_THAT(plain->at(1).labels, ElementsAre(5, 6, -100));
  EXPECT_THAT(plain->at(1).positions, ElementsAre(0, 1, 2));

  const auto given =
      open({{"ids", {1, 3}, {1, 2, 3}}, {"labels", {1, 3}, {9, -100, 0}}, {"positions", {1, 3}, {0, 0, 1}}});
  EXPECT_THAT(given->at(0).labels, ElementsAre(9, -100, 0));
  EXPECT_THAT(given->at(0).positions, ElementsAre(0, 0, 1));
}

TEST_F(TokensFileTest, EachMistakeIsNamedWithItsPlace) {
  const Tensor good{"ids", {2, 2}, {1, 2, 3, 4}};
  const std::pair<std::vector<Tensor>, std::string> bad[] = {
      {{{"labels", {1, 2}, {1, 2}}}, "has no tensor \"ids\""},
      {{good, {"mask", {2, 2}, {1, 1, 1, 1}}}, "unexpected tensor \"mask\""},
      {{{"ids", {2, 2}, {1, 2}, Dtype::kInt32}}, "\"ids\" is I32 [2, 2], wanted int64 (I64) [sequences, tokens]"},
      {{{"ids", {4}, {1, 2, 3, 4}}}, "\"ids\" is I64 [4], wanted"},
      {{{"ids", {0, 2}, {}}}, "\"ids\" is [0, 2]: it holds no token"},
      {{{"ids", {1, 5}, {1, 2, 3, 4, 5}}}, "have 5 tokens, the model takes at most 4"},
      {{{"ids", {2, 2}, {1, 2, 3, 10}}}, "\"ids\"[1, 1] is 10, wanted 0 to 9"},
      {{{"ids", {2, 2}, {1, -1, 3, 4}}}, "\"ids\"[0, 1] is -1, wanted 0 to 9"},
      {{good, {"labels", {2, 2}, {1, 2, -1, 4}}}, "\"labels\"[1, 0] is -1, wanted 0 to 9"},
      {{good, {"labels", {1, 4}, {1, 2, 3, 4}}}, "\"labels\" is [1, 4], but \"ids\" is [2, 2]"},
      {{good, {"positions", {2, 2}, {0, 1, 1, 2}}}, "\"positions\"[1, 0] is 1, wanted 0"},
      {{good, {"positions", {2, 2}, {0, 2, 0, 1}}}, "\"positions\"[0, 1] is 2, wanted 1, or 0"},
  };
  for (const auto& [tensors, message] : bad) {
    EXPECT_THAT(error(tensors), AllOf(HasSubstr(path_), HasSubstr(message)));
  }
  EXPECT_THROW(open_tokens_file(scene_.path("none.safetensors"), {.vocab = 10}), std::runtime_error);
}

}  // namespace
}  // namespace qwen3::data
