#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <latch>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "tests/data/scene.h"
#include "tests/full_disk.h"

namespace qwen3::data {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::Not;
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

// Of the system, not of the text: the rank's boundary tells them apart. The second text fits into the buffers of stdio.
TEST(TokenCache, AFullDiskIsAnErrorOfTheSystem) {
  for (const size_t bytes : {100'000, 1500}) {
    Scene scene;
    scene.write("a.txt", std::string(bytes, 'a'));
    const qwen3::tests::FullDisk full(/*bytes=*/1024);
    try {
      open(scene.options(2));
      ADD_FAILURE() << bytes << " bytes were tokenised onto a full disk";
    } catch (const std::system_error& e) {
      EXPECT_EQ(e.code(), std::errc::file_too_large);
    } catch (const std::exception& e) {
      ADD_FAILURE() << bytes << " bytes: " << e.what();
    }
  }
}

// The lock of a text that has been tokenised, held by this test in the place of another process; its token file is put
// aside. (flock belongs to the open file, so threads stand for processes here.)
class HeldLock {
 public:
  explicit HeldLock(const Scene& scene) : tokens_(token_file_in(scene.path("cache"))) {
    const std::string lock = std::filesystem::path(tokens_).replace_extension(".lock");
    file_ = ::open(lock.c_str(), O_RDWR);
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0) throw std::runtime_error("cannot lock " + lock);
    std::filesystem::rename(tokens_, tokens_ + ".aside");
  }
  ~HeldLock() { ::close(file_); }
  void bring_token_file() const { std::filesystem::rename(tokens_ + ".aside", tokens_); }

 private:
  std::string tokens_;
  int file_;
};

// Opens the text in a thread.
class Opener {
 public:
  explicit Opener(OpenOptions options) : options_(std::move(options)) {
    options_.progress = [this](const std::string& sentence) {
      said_.push_back(sentence);
      if (sentence.starts_with("waiting for another process")) tell();
    };
    thread_ = std::jthread([this] {
      sequences_ = open(options_).train->sequences();
      tell();
    });
  }
  // Returns once it says that it waits, or is done without.
  void wait_until_it_waits() { told_.wait(); }
  std::vector<std::string> finish() {
    thread_.join();
    EXPECT_GT(sequences_, 0);
    return said_;
  }

 private:
  void tell() {
    std::call_once(once_, [this] { told_.count_down(); });
  }

  OpenOptions options_;
  std::vector<std::string> said_;
  std::once_flag once_;
  std::latch told_{1};
  int64_t sequences_ = 0;
  std::jthread thread_;
};

TEST(TokenCache, AProcessWaitsForTheOneThatHoldsTheLockAndTakesItsFile) {
  Scene scene;
  scene.write("a.txt", "some text");
  open(scene.options(2));
  auto lock = std::make_unique<HeldLock>(scene);
  Opener opener(scene.options(2));
  opener.wait_until_it_waits();
  lock->bring_token_file();
  lock.reset();
  EXPECT_THAT(opener.finish(), Not(Contains(StartsWith("tokenis"))));
}

TEST(TokenCache, IfTheHolderOfTheLockDiesTheOneThatWaitsTakesOver) {
  Scene scene;
  scene.write("a.txt", "some text");
  open(scene.options(2));
  auto lock = std::make_unique<HeldLock>(scene);
  Opener opener(scene.options(2));
  opener.wait_until_it_waits();
  lock.reset();  // without a file: as when a process is killed
  EXPECT_THAT(opener.finish(), Contains(StartsWith("tokenised ")));
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
