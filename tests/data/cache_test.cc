#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/data/scene.h"

namespace qwen3::data {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::StartsWith;

std::string token_file_in(const std::string& cache) {
  for (const auto& entry : std::filesystem::directory_iterator(cache)) {
    if (entry.path().extension() == ".tokens") return entry.path();
  }
  return "";
}

TEST(TokenCache, ATextIsTokenisedOnce) {
  Scene scene;
  scene.write("a.txt", "some text");
  open(scene.options(2));
  EXPECT_THAT(scene.said, Contains(StartsWith("tokenised ")));
  scene.said.clear();
  open(scene.options(2));
  EXPECT_THAT(scene.said, IsEmpty());
}

TEST(TokenCache, ChangedTextOrTokenizerIsTokenisedAnew) {
  Scene scene;
  scene.write("a.txt", "some text");
  open(scene.options(2));
  scene.write("a.txt", "same size");
  EXPECT_EQ(open(scene.options(1)).train->at(2).ids[0], 'm');

  scene.said.clear();
  std::ofstream(scene.path("bytes.tiktoken"), std::ios::app) << "YWI= 256\n";  // "ab"
  open(scene.options(2));
  EXPECT_THAT(scene.said, Contains(StartsWith("tokenised ")));
}

TEST(TokenCache, AFileThatWasCutShortIsMadeAgain) {
  Scene scene;
  scene.write("a.txt", "some text");
  const std::vector<int64_t> ids = all_ids(*open(scene.options(1)).train);
  const std::string file = token_file_in(scene.path("cache"));
  const auto size = std::filesystem::file_size(file);
  for (const auto kept : {std::size_t{0}, std::size_t{10}, size - 1}) {
    std::filesystem::resize_file(file, kept);
    EXPECT_EQ(all_ids(*open(scene.options(1)).train), ids);
    EXPECT_EQ(std::filesystem::file_size(file), size);
  }
}

TEST(TokenCache, OfManyProcessesOneTokenisesAndAllSeeTheSame) {
  constexpr int kProcesses = 6;
  Scene scene;
  for (int i = 0; i < 200; ++i)
    scene.write(std::to_string(i) + ".txt", std::string(5000, static_cast<char>('a' + i % 26)));
  int start[2];
  int done[2];
  ASSERT_EQ(pipe(start), 0);
  ASSERT_EQ(pipe(done), 0);
  std::vector<pid_t> children;
  for (int i = 0; i < kProcesses; ++i) {
    children.push_back(fork());
    if (children.back() != 0) continue;
    close(start[1]);
    char byte;
    // Blocks until the parent closes its end: all begin together.
    [[maybe_unused]] const ssize_t none = read(start[0], &byte, 1);
    bool ok = false;
    try {
      ok = open(scene.options(100)).train->at(0).ids[0] == 'a';
    } catch (const std::exception&) {
    }
    bool made = false;
    for (const std::string& sentence : scene.said) made |= sentence.starts_with("tokenised ");
    if (made && write(done[1], "m", 1) != 1) ok = false;
    _exit(ok ? 0 : 1);
  }
  close(start[0]);
  close(start[1]);
  for (const pid_t child : children) {
    int status = 1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  close(done[1]);
  char makers[kProcesses + 1];
  EXPECT_EQ(read(done[0], makers, sizeof(makers)), 1);
  close(done[0]);
}

}  // namespace
}  // namespace qwen3::data
