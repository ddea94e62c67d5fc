#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/data/scene.h"

namespace qwen3::data {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kGiant = (int64_t{256} << 20) + (int64_t{8} << 20);  // above the longest stretch that is accepted

struct Bad {
  std::string name;
  std::string content;
  std::string message;  // part of what must be said, besides the file's name
};

std::vector<Bad> table() {
  const std::string good = "{\"text\": \"good\"}\n";
  return {
      {"empty.txt", "", "is empty"},
      {"empty.jsonl", "", "is empty"},
      {"latin1.txt", "caf\xE9 au lait", "line 1 is not UTF-8: byte 0xE9 at offset 3"},
      {"half.txt", "one\ntwo\n\xE4\xB8", "line 3 is not UTF-8: byte 0xE4 at offset 8"},
      {"surrogate.txt", "a\xED\xA0\x80z", "byte 0xED at offset 1"},
      {"overlong.txt", "\xC0\xAF", "byte 0xC0 at offset 0"},
      {"late.txt.gz", std::string(5 << 20, '\n') + "\xFF", "line 5242881 is not UTF-8: byte 0xFF at offset 5242880"},
      {"utf8.jsonl", good + "{\"text\": \"\xFF\"}\n", "line 2 is not UTF-8: byte 0xFF at offset 27"},
      {"brace.jsonl", good + good + "{\"text\": \"x\"", "line 3 not JSON"},
      {"two.jsonl", "{\"text\": \"a\"} {\"text\": \"b\"}\n", "line 1 not JSON"},
      {"number.jsonl", good + "42\n", "line 2 is a number, wanted an object with a string \"text\""},
      {"array.jsonl", "[\"text\"]\n", "line 1 is an array, wanted an object"},
      {"missing.jsonl", "{\"content\": \"x\"}\n", "line 1 has no \"text\""},
      {"nested.jsonl", "{\"doc\": {\"text\": \"x\"}}\n", "line 1 has no \"text\""},
      {"null.jsonl", "{\"text\": null}\n", "line 1 \"text\" is null, wanted a string"},
      {"list.jsonl", "{\"text\": [\"x\"]}\n", "line 1 \"text\" is an array, wanted a string"},
      {"twice.jsonl", "{\"text\": \"x\", \"text\": \"y\"}\n", "line 1 \"text\" occurs twice"},
      {"lone.jsonl", "{\"text\": \"\\ud800\"}\n", "line 1 not JSON"},
      {"deep.jsonl", "{\"x\": " + std::string(100000, '[') + "}\n", "line 1 nested deeper than 64"},
      {"giant.jsonl.gz", "{\"text\": \"" + std::string(kGiant, 'a'), "line 1 is longer than 256 MiB"},
      {"giant.txt.zst", "short\n" + std::string(kGiant, 'a'), "line 2 is longer than 256 MiB"},
      {"table.parquet", "PAR1....PAR1", "Parquet is not read here; convert it to JSON lines"},
      {"disguised.txt", "PAR1....PAR1", "Parquet is not read here"},
  };
}

TEST(BadInput, EachIsRefusedWithFileAndPlace) {
  for (const Bad& bad : table()) {
    SCOPED_TRACE(bad.name);
    Scene scene;
    scene.write(bad.name, bad.content);
    EXPECT_THAT(error_of(scene.options(/*seq_len=*/2)), AllOf(HasSubstr("text/" + bad.name), HasSubstr(bad.message)));
    // What is not complete must not be found by the next process.
    const std::filesystem::path cache = scene.path("cache");
    if (!std::filesystem::exists(cache)) continue;
    for (const auto& entry : std::filesystem::directory_iterator(cache)) EXPECT_EQ(entry.path().extension(), ".lock");
  }
}

TEST(BadInput, DamagedCompressionIsNamed) {
  for (const std::string name : {"a.txt.gz", "a.txt.zst"}) {
    SCOPED_TRACE(name);
    Scene scene;
    const std::string path = scene.path("text/" + name);
    scene.write(name, std::string(100000, 'a') + "b");
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 5);
    EXPECT_THAT(error_of(scene.options(/*seq_len=*/2)), AllOf(HasSubstr(name), HasSubstr("data end too early")));

    std::ofstream(path) << "plain text that says it is compressed";
    EXPECT_THAT(error_of(scene.options(/*seq_len=*/2)), AllOf(HasSubstr(name), HasSubstr("not")));
  }
}

TEST(BadInput, WhatIsNotThereOrHasNoTextIsNamed) {
  Scene scene;
  EXPECT_THAT(error_of(scene.options(2)), HasSubstr("holds no file whose name ends in .txt, .jsonl"));
  OpenOptions options = scene.options(2);
  options.data.path = scene.path("nowhere");
  EXPECT_THAT(error_of(options), HasSubstr("nowhere: no such file or folder"));
  scene.write("notes.md", "x");
  options.data.path = scene.path("text/notes.md");
  EXPECT_THAT(error_of(options), HasSubstr("notes.md: wanted a name in .txt"));
  scene.write("a.txt", "fine text");
  options = scene.options(2);
  options.data.tokenizer = scene.path("missing.tiktoken");
  EXPECT_THAT(error_of(options), HasSubstr("missing.tiktoken: No such file"));
}

}  // namespace
}  // namespace qwen3::data
