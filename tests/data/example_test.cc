// Fine-tuning data: only responses have labels, examples stay whole, bad lines are named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "tests/data/scene.h"
#include "worker/rank/data/dataset.h"

namespace qwen3::data {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

OpenOptions example_options(Scene& scene, int64_t seq_len, double held_out = 0) {
  OpenOptions options = scene.options(seq_len, held_out);
  options.data.prompt_key = "prompt";
  options.data.response_key = "response";
  return options;
}

std::string line(const std::string& prompt, const std::string& response) {
  return "{\"prompt\": \"" + prompt + "\", \"response\": \"" + response + "\"}\n";
}

TEST(Examples, OnlyTheResponseAndItsEndHaveLabels) {
  Scene scene;
  scene.write("a.jsonl", line("abc", "de") + line("f", "ghi"));
  const Splits splits = open(example_options(scene, /*seq_len=*/14));

  ASSERT_EQ(splits.train->sequences(), 1);
  const Sample sample = splits.train->at(0);
  constexpr int64_t E = kEos;
  EXPECT_THAT(sample.ids, ElementsAre('a', 'b', 'c', 'd', 'e', E, 'f', 'g', 'h', 'i', E, E, E, E));
  // The prompt's last token predicts the response's first; the response's last predicts the end of the text.
  EXPECT_THAT(sample.labels, ElementsAre(-100, -100, 'd', 'e', E, -100, 'g', 'h', 'i', E, -100, -100, -100, -100));
  EXPECT_THAT(sample.positions, ElementsAre(0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 0, 1, 2));
}

TEST(Examples, OneThatDoesNotFitBeginsTheNextSequence) {
  Scene scene;
  scene.write("a.jsonl", line("ab", "c") + line("d", "ef") + line("g", "h"));  // 4, 4 and 3 tokens
  const Splits splits = open(example_options(scene, /*seq_len=*/7));
  ASSERT_EQ(splits.train->sequences(), 2);
  EXPECT_THAT(splits.train->at(0).ids, ElementsAre('a', 'b', 'c', kEos, kEos, kEos, kEos));
  EXPECT_THAT(splits.train->at(0).positions, ElementsAre(0, 1, 2, 3, 0, 1, 2));
  EXPECT_THAT(splits.train->at(1).ids, ElementsAre('d', 'e', 'f', kEos, 'g', 'h', kEos));
  EXPECT_THAT(splits.train->at(1).labels, ElementsAre('e', 'f', kEos, -100, 'h', kEos, -100));
}

TEST(Examples, OneThatIsTooLongLosesItsEndAndIsReported) {
  Scene scene;
  scene.write("a.jsonl", line("a", "b") + line("cd", "efgh") + line("i", "j"));
  const Splits splits = open(example_options(scene, /*seq_len=*/4));
  ASSERT_EQ(splits.train->sequences(), 3);
  EXPECT_THAT(splits.train->at(1).ids, ElementsAre('c', 'd', 'e', 'f'));
  EXPECT_THAT(splits.train->at(1).labels, ElementsAre(-100, 'e', 'f', 'g'));
  EXPECT_THAT(scene.said, ::testing::Contains(HasSubstr("1 of 3 examples are longer than seq_len 4")));
}

TEST(Examples, AnEmptyPromptIsAllowedAndOtherMembersAreReadOver) {
  Scene scene;
  scene.write("a.jsonl", "{\"id\": 3, \"response\": \"xy\", \"meta\": {\"prompt\": 1}, \"prompt\": \"\"}\n");
  const Sample sample = open(example_options(scene, /*seq_len=*/3)).train->at(0);
  EXPECT_THAT(sample.ids, ElementsAre('x', 'y', kEos));
  EXPECT_THAT(sample.labels, ElementsAre('y', kEos, -100));
}

TEST(Examples, OtherKeysAreOtherDataAndPlainTextStaysPlain) {
  Scene scene;
  scene.write("a.jsonl", "{\"prompt\": \"p\", \"response\": \"r\", \"answer\": \"a\", \"text\": \"texttext\"}\n");
  OpenOptions options = example_options(scene, /*seq_len=*/3);
  EXPECT_THAT(open(options).train->at(0).ids, ElementsAre('p', 'r', kEos));
  options.data.response_key = "answer";
  EXPECT_THAT(open(options).train->at(0).ids, ElementsAre('p', 'a', kEos));
  EXPECT_THAT(open(scene.options(/*seq_len=*/3)).train->at(0).ids, ElementsAre('t', 'e', 'x'));
}

TEST(Examples, TheLastSequencesAreHeldOut) {
  Scene scene;
  std::string lines;
  for (char c = 'a'; c < 'k'; ++c) lines += line(std::string(1, c), "xyz");  // 5 tokens each
  scene.write("a.jsonl", lines);
  const Splits splits = open(example_options(scene, /*seq_len=*/5, /*held_out=*/0.2));
  EXPECT_EQ(splits.train->sequences(), 8);
  ASSERT_EQ(splits.validation->sequences(), 2);
  EXPECT_EQ(splits.validation->at(0).ids[0], 'i');
}

// Every example once an epoch, in an order that the seed alone decides.
TEST(Examples, AnEpochShowsEachExampleOnce) {
  Scene scene;
  std::string lines;
  for (int i = 0; i < 12; ++i) lines += line(std::string(1, static_cast<char>('a' + i)), "xyz");
  scene.write("a.jsonl", lines);
  const Splits splits = open(example_options(scene, /*seq_len=*/5));
  const auto epoch = [&](uint64_t seed) {
    std::string order;
    for (int64_t i = 0; i < 12; ++i) {
      order +=
          static_cast<char>(splits.train->at(shuffled_index(seed, 12, /*global_batch=*/4, 1 + i / 4, i % 4)).ids[0]);
    }
    return order;
  };
  EXPECT_EQ(epoch(3), epoch(3));
  EXPECT_NE(epoch(3), epoch(4));
  const std::string order = epoch(3);
  EXPECT_EQ(std::set<char>(order.begin(), order.end()).size(), 12U);
}

TEST(Examples, ABadLineIsNamedWithItsKey) {
  const std::string good = line("a", "b");
  const std::pair<std::string, std::string> bad[] = {
      {good + "{\"prompt\": \"a\"}\n", "line 2 has no \"response\""},
      {"{\"response\": \"a\"}\n", "line 1 has no \"prompt\""},
      {good + good + "{\"prompt\": \"a\", \"response\": [\"b\"]}\n",
       "line 3 \"response\" is an array, wanted a string"},
      {"{\"prompt\": 1, \"response\": \"b\"}\n", "line 1 \"prompt\" is a number, wanted a string"},
      {good + line("a", ""), "line 2 \"response\" is empty"},
      {"{\"prompt\": \"a\", \"prompt\": \"a\", \"response\": \"b\"}\n", "line 1 \"prompt\" occurs twice"},
      {"[]\n", "line 1 is an array, wanted an object with a string \"prompt\" and a string \"response\""},
  };
  for (const auto& [content, message] : bad) {
    Scene scene;
    scene.write("bad.jsonl", content);
    EXPECT_THAT(error_of(example_options(scene, 4)), AllOf(HasSubstr("text/bad.jsonl"), HasSubstr(message)));
  }
  Scene scene;
  scene.write("plain.txt", "text");
  EXPECT_THAT(error_of(example_options(scene, 4)), AllOf(HasSubstr("text/plain.txt"), HasSubstr("needs JSON lines")));
}

}  // namespace
}  // namespace qwen3::data
