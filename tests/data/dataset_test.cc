#include "worker/rank/data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/data/scene.h"

namespace qwen3::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Dataset, LabelsAreTheNextTokensAndNeverReachIntoTheNextDocument) {
  Scene scene;
  scene.write("1.txt", "abc");
  scene.write("2.txt", "defg");
  const Splits splits = open(scene.options(/*seq_len=*/3));  // abc E defg E: nine tokens

  ASSERT_EQ(splits.train->sequences(), 2);
  const Sample first = splits.train->at(0);
  EXPECT_THAT(first.ids, ElementsAre('a', 'b', 'c'));
  EXPECT_THAT(first.labels, ElementsAre('b', 'c', kEos));
  EXPECT_THAT(first.positions, ElementsAre(0, 1, 2));
  const Sample second = splits.train->at(1);
  EXPECT_THAT(second.ids, ElementsAre(kEos, 'd', 'e'));
  EXPECT_THAT(second.labels, ElementsAre(-100, 'e', 'f'));
  EXPECT_THAT(second.positions, ElementsAre(0, 0, 1));
  EXPECT_EQ(splits.validation, nullptr);
}

TEST(Dataset, PackingEqualsAPlainLoopOverRandomDocuments) {
  std::mt19937 random(1);
  Scene scene;
  std::vector<int64_t> tokens, next_token, position_in_document;
  for (int document = 0; document < 50; ++document) {
    std::string text(1 + random() % 40, 'x');
    for (char& c : text) c = static_cast<char>('a' + random() % 26);
    scene.write(std::to_string(100 + document) + ".txt", text);
    for (std::size_t i = 0; i <= text.size(); ++i) {
      tokens.push_back(i < text.size() ? text[i] : kEos);
      next_token.push_back(i + 1 < text.size() ? text[i + 1] : i + 1 == text.size() ? kEos : -100);
      position_in_document.push_back(static_cast<int64_t>(i));
    }
  }
  for (const int64_t seq_len : {1, 2, 7, 16, 128}) {
    const Splits splits = open(scene.options(seq_len));
    ASSERT_EQ(splits.train->sequences(), (static_cast<int64_t>(tokens.size()) - 1) / seq_len);
    for (int64_t i = 0; i < splits.train->sequences(); ++i) {
      const Sample sample = splits.train->at(i);
      for (int64_t s = 0; s < seq_len; ++s) {
        const int64_t at = i * seq_len + s;
        ASSERT_EQ(sample.ids[s], tokens[at]);
        ASSERT_EQ(sample.labels[s], next_token[at]);
        // A document that began in an earlier sequence starts over at 0: each sequence is a context of its own.
        ASSERT_EQ(sample.positions[s], std::min(s, position_in_document[at]));
      }
    }
  }
}

TEST(Dataset, TheEndOfTheTextIsHeldOut) {
  Scene scene;
  scene.write("a.txt", std::string(1000, 'a') + std::string(100, 'b'));
  const Splits splits = open(scene.options(/*seq_len=*/10, /*held_out=*/0.1));
  EXPECT_EQ(splits.train->sequences(), 99);  // 1101 tokens: 110 sequences
  EXPECT_EQ(splits.validation->sequences(), 11);
  EXPECT_EQ(splits.train->tokens(), 990);
  const std::vector<int64_t> held_out = all_ids(*splits.validation);
  EXPECT_EQ(std::count(held_out.begin(), held_out.end(), 'a'), 10);
  EXPECT_EQ(std::count(held_out.begin(), held_out.end(), 'b'), 100);
}

TEST(Dataset, ASmallShareHoldsOutOneSequenceAndLeavesOneToTrain) {
  Scene scene;
  scene.write("a.txt", "abcdefgh");
  for (const double share : {0.001, 0.999}) {
    const Splits splits = open(scene.options(/*seq_len=*/4, share));
    EXPECT_EQ(splits.train->sequences(), 1);
    EXPECT_EQ(splits.validation->sequences(), 1);
  }
}

TEST(Dataset, TooLittleTextIsRefusedWithTheNumbers) {
  Scene scene;
  scene.write("a.txt", "abcdefgh");
  EXPECT_THAT(error_of(scene.options(/*seq_len=*/9)), HasSubstr("has 9 tokens, wanted at least 10 for 1 sequence"));
  EXPECT_THAT(error_of(scene.options(/*seq_len=*/5, /*held_out=*/0.1)), HasSubstr("wanted at least 11"));
}

TEST(Dataset, ATokenOutsideTheModelsVocabularyIsRefused) {
  Scene scene;
  scene.write("a.txt", "plain text");
  OpenOptions options = scene.options(/*seq_len=*/4);
  options.vocab = 256;  // no room for the end-of-text token
  EXPECT_THAT(error_of(options), HasSubstr("token id 256 is outside the model's vocabulary of 256"));
}

TEST(Dataset, ASequenceThatIsNotThereIsRefused) {
  Scene scene;
  scene.write("a.txt", "abcdefgh");
  const Splits splits = open(scene.options(/*seq_len=*/4));
  EXPECT_THROW(splits.train->at(2), std::out_of_range);
  EXPECT_THROW(splits.train->at(-1), std::out_of_range);
}

}  // namespace
}  // namespace qwen3::data
