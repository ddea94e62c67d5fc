// What a tokenizer file may hold, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/temporary_folder.h"
#include "tests/tokenizer/vocabulary_file.h"
#include "tokenizer/hf_json.h"
#include "tokenizer/tiktoken_file.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace qwen3::tokenizer {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

// The first 2,022 lines of the real vocabulary: with the 26 added tokens, the 2,048 of the debug flavors.
std::string small_tiktoken() {
  std::ifstream file(kVocabularyFile);
  std::string text, line;
  for (int i = 0; i < 2022 && std::getline(file, line); ++i) text += line + '\n';
  return text;
}

std::string write_file(const std::string& name, const std::string& content) {
  static const qwen3::tests::TemporaryFolder folder("tokenizer");
  std::ofstream(folder.file(name), std::ios::binary) << content;
  return folder.file(name);
}

const std::string& small_json() {
  static const std::string text = to_hf_json(parse_tiktoken(small_tiktoken()).value());
  return text;
}

TEST(TokenizerFile, TheFirstRanksMakeTheDebugVocabulary) {
  const Tokenizer small = Tokenizer::load(write_file("small.tiktoken", small_tiktoken())).value();
  EXPECT_EQ(small.vocab_size(), 2048);
  EXPECT_EQ(small.eos_id(), 2022);
  EXPECT_EQ(small.decode(small.encode("O Romeo, Romeo!<|im_end|>").value()).value(), "O Romeo, Romeo!<|im_end|>");
}

TEST(TokenizerFile, TheJsonAndTheTiktokenFormGiveTheSameIds) {
  const Tokenizer from_tiktoken = Tokenizer::load(write_file("small.tiktoken", small_tiktoken())).value();
  const Tokenizer from_json = Tokenizer::load(write_file("tokenizer.json", small_json())).value();
  std::stringstream text;
  text << std::ifstream(QWEN3_SOURCE_DIR "/tests/tokenizer/tokenizer_test.cc").rdbuf() << "caf\u00e9 \u4e2d <think>";
  EXPECT_EQ(from_json.encode(text.str()).value(), from_tiktoken.encode(text.str()).value());
  EXPECT_EQ(from_json.vocab_size(), 2048);
  EXPECT_EQ(from_json.eos_id(), 2022);
  EXPECT_NE(from_json.digest(), from_tiktoken.digest());
}

TEST(TokenizerFile, TheOlderFormOfMergesIsRead) {
  Json json = Json::parse(small_json());
  for (Json& merge : json["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  const Tokenizer tokenizer = Tokenizer::load(write_file("tokenizer.json", json.dump())).value();
  const Tokenizer small = Tokenizer::load(write_file("small.tiktoken", small_tiktoken())).value();
  EXPECT_EQ(tokenizer.encode("Long live the king").value(), small.encode("Long live the king").value());
}

struct Bad {
  const char* name;
  std::function<void(Json&)> spoil;
  const char* message;
};

TEST(TokenizerFile, AJsonThatIsNotQwen3sIsRefusedByName) {
  const Bad table[] = {
      {"normalizer", [](Json& j) { j["normalizer"]["type"] = "NFKC"; },
       "normalizer.type is \"NFKC\", but only Qwen3's"},
      {"pattern", [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a+)+$"; },
       "pre_tokenizer.pretokenizers.0.pattern.Regex is \"(a+)+$\""},
      {"third",
       [](Json& j) {
         j["pre_tokenizer"]["pretokenizers"].push_back({{"type", "Digits"}});
       },
       "pre_tokenizer.pretokenizers.2.type is \"Digits\""},
      {"type", [](Json& j) { j["model"]["type"] = "Unigram"; }, "model.type is \"Unigram\""},
      {"dropout", [](Json& j) { j["model"]["dropout"] = 0.1; }, "model.dropout is 0.1"},
      {"fallback", [](Json& j) { j["model"]["byte_fallback"] = true; }, "model.byte_fallback is true"},
      {"flag", [](Json& j) { j["added_tokens"][3]["lstrip"] = true; }, "added_tokens.3.lstrip is true"},
      {"taken", [](Json& j) { j["added_tokens"][0]["id"] = 5; }, "has id 5, which another token has"},
      {"negative", [](Json& j) { j["added_tokens"][0]["id"] = -1; }, "added_tokens.0.id is -1"},
      {"huge", [](Json& j) { j["added_tokens"][0]["id"] = 2000000000; }, "added_tokens.0.id is 2000000000"},
      {"eos", [](Json& j) { j["added_tokens"].erase(0); }, "has no added token \"<|endoftext|>\""},
      {"merge",
       [](Json& j) {
         j["model"]["merges"][7] = {"zzz", "qqq"};
       },
       "model.merges.7: token \"zzz\" is not in"},
      {"again", [](Json& j) { j["model"]["merges"][7] = j["model"]["merges"][3]; }, "model.merges.7:"},
      {"triple",
       [](Json& j) {
         j["model"]["merges"][7] = {"a", "b", "c"};
       },
       "a merge of more than 2 tokens"},
      {"single", [](Json& j) { j["model"]["merges"][7] = {"a"}; }, "a merge of 1 tokens, wanted 2"},
      {"number", [](Json& j) { j["model"]["merges"][7] = 1; }, "a merge that is not made of strings"},
      {"alphabet", [](Json& j) { j["model"]["vocab"]["a b"] = 2022; }, "is not written in the byte-level alphabet"},
      {"gap", [](Json& j) { j["model"]["vocab"]["zzz"] = 99999; }, "has id 99999 in a vocabulary of 2023"},
      {"same id", [](Json& j) { j["model"]["vocab"]["zzz"] = 7; }, "both have id 7"},
      {"no byte",
       [](Json& j) {
         j["model"]["vocab"].erase("!");
         j["model"]["vocab"]["zzz"] = 0;
       },
       "token \"!\" is not"},
      {"id type", [](Json& j) { j["model"]["vocab"]["zzz"] = "7"; }, "token \"zzz\" has no number"},
      {"id object", [](Json& j) { j["model"]["vocab"]["zzz"] = Json::object(); }, "a token without a numeric id"},
      {"vocab", [](Json& j) { j["model"]["vocab"] = Json::array({1}); }, "model.vocab is of the wrong kind"},
  };
  for (const Bad& bad : table) {
    SCOPED_TRACE(bad.name);
    Json json = Json::parse(small_json());
    bad.spoil(json);
    const absl::Status status = Tokenizer::load(write_file("tokenizer.json", json.dump())).status();
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
  }
}

TEST(TokenizerFile, HostileJsonIsRefusedWithoutBuildingIt) {
  const std::pair<std::string, const char*> table[] = {
      {"", "not JSON"},
      {"{", "not JSON"},
      {"7", "not an object"},
      {std::string(1000000, '['), "nested deeper than 8"},
      {"{\"a\":1,\"a\":2}", "key \"a\" occurs twice"},
      {"{\"x\":[" + std::string(200000, '1').replace(1, 0, ",") + "]}", "not JSON"},
      {"{\"x\":\"\xFF\"}", "not UTF-8 at byte 6"},
      {"{\"model\":{\"vocab\":{\"a\":0,\"a\":1}}}", "normalizer.type is null"},
  };
  for (const auto& [text, message] : table) {
    SCOPED_TRACE(text.substr(0, 40));
    EXPECT_THAT(std::string(parse_hf_json(text).status().message()), HasSubstr(message));
  }
  std::string many = "{\"x\":[0";
  for (int i = 0; i < 100000; ++i) many += ",0";
  EXPECT_THAT(std::string(parse_hf_json(many + "]}").status().message()), HasSubstr("too many values"));
}

TEST(TokenizerFile, ABadTiktokenLineIsNamed) {
  const std::string good = small_tiktoken();
  const std::pair<std::string, const char*> table[] = {
      {"IQ== 1\n", "line 1: got rank 1, wanted 0"},
      {"IQ== 0\nIQ== 1\n", "token \"!\" occurs twice"},
      {"IQ==0\n", "line 1: got \"IQ==0\", wanted a token in base64"},
      {"?? 0\n", "line 1: got \"?? 0\""},
      {"IQ== 0\nIg== 1\n", "there is no token for the single byte 0x00"},
      {good + "enp6enp6enp6 2022\n", "line 2023: token \"zzzzzzzzz\" falls into"},
      {good + "\n", "line 2023: got \"\""},
  };
  for (const auto& [text, message] : table) {
    EXPECT_THAT(std::string(parse_tiktoken(text).status().message()), HasSubstr(message));
  }
}

TEST(TokenizerFile, AFileThatIsNotThereOrTooLargeIsNamed) {
  EXPECT_THAT(std::string(Tokenizer::load("/nowhere/tokenizer.json").status().message()), HasSubstr("/nowhere/"));
  const std::string large = write_file("large.json", "{}");
  std::filesystem::resize_file(large, kMaxFileBytes + 1);  // sparse
  EXPECT_THAT(std::string(Tokenizer::load(large).status().message()), HasSubstr("67108865 bytes, at most 67108864"));
  EXPECT_THAT(std::string(Tokenizer::load(write_file("vocab.bpe", "")).status().message()),
              HasSubstr("wanted a .tiktoken or tokenizer.json file"));
}

}  // namespace
}  // namespace qwen3::tokenizer
