#include "coordinator/records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>

#include "tests/temporary_folder.h"

namespace qwen3::coordinator {
namespace {

class RecordsTest : public ::testing::Test {
 protected:
  // Appends and waits; returns the fresh ones.
  static std::vector<Record> append(Records& records, std::vector<Record> batch) {
    std::promise<std::vector<Record>> done;
    records.append("j", RecordKind::kLogs, std::move(batch),
                   [&](const absl::Status& status, std::vector<Record> fresh) {
                     EXPECT_TRUE(status.ok()) << status;
                     done.set_value(std::move(fresh));
                   });
    return done.get_future().get();
  }
  static std::vector<std::string> read(Records& records, int64_t position = 0) {
    std::vector<std::string> payloads;
    while (true) {
      const auto some = records.read("j", RecordKind::kLogs, position, /*max_bytes=*/40);
      EXPECT_TRUE(some.ok()) << some.status();
      if (!some.ok() || some->empty()) return payloads;
      for (const PositionedRecord& one : *some) payloads.push_back(one.record.payload);
      position = some->back().position;
    }
  }

  const qwen3::tests::TemporaryFolder folder_{"records"};
};

using ::testing::ElementsAre;
using ::testing::SizeIs;

TEST_F(RecordsTest, KeepTheOrderOfArrivalAcrossRanksAndRestarts) {
  {
    Records records(folder_.path());
    append(records, {{1, 0, 1, "a"}, {1, 1, 1, "b"}});
    append(records, {{1, 0, 2, "c"}});
  }
  Records records(folder_.path());
  append(records, {{2, 0, 1, "d"}});
  EXPECT_THAT(read(records), ElementsAre("a", "b", "c", "d"));
}

TEST_F(RecordsTest, ABatchSentAgainChangesNothing) {
  {
    Records records(folder_.path());
    EXPECT_THAT(append(records, {{1, 0, 1, "a"}, {1, 0, 2, "b"}}), SizeIs(2));
    EXPECT_THAT(append(records, {{1, 0, 1, "a"}, {1, 0, 2, "b"}, {1, 0, 3, "c"}}), SizeIs(1));
  }
  Records records(folder_.path());  // also after a restart
  EXPECT_THAT(append(records, {{1, 0, 2, "b"}, {1, 0, 3, "c"}, {1, 0, 3, "c"}}), SizeIs(0));
  EXPECT_THAT(read(records), ElementsAre("a", "b", "c"));
}

TEST_F(RecordsTest, ATornTailIsCutWhereverItIsTorn) {
  const std::string path = folder_.path() + "/j.logs";
  {
    Records records(folder_.path());
    append(records, {{1, 0, 1, "first"}, {1, 0, 2, "second"}});
  }
  const auto whole = std::filesystem::file_size(path);
  std::ifstream in(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  for (size_t cut = 1; cut < 32 + 6; ++cut) {  // anywhere in the second record
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(whole - cut));
    Records records(folder_.path());
    EXPECT_THAT(read(records), ElementsAre("first")) << cut << " bytes are missing";
    append(records, {{1, 0, 2, "second"}});
    EXPECT_THAT(read(records), ElementsAre("first", "second"));
  }
}

TEST_F(RecordsTest, AFlippedBitIsNeverReadAsARecord) {
  const std::string path = folder_.path() + "/j.logs";
  {
    Records records(folder_.path());
    append(records, {{1, 0, 1, "only"}});
  }
  std::ifstream in(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    std::ofstream(path, std::ios::binary).write(flipped.data(), static_cast<std::streamsize>(flipped.size()));
    Records records(folder_.path());
    EXPECT_THAT(read(records), ::testing::IsEmpty()) << "bit " << bit;
  }
}

TEST_F(RecordsTest, APositionThatIsNoneIsOutOfRange) {
  Records records(folder_.path());
  append(records, {{1, 0, 1, "a"}, {1, 0, 2, "b"}});
  for (const int64_t position : {-1, 1, 32, 34, 1000}) {
    EXPECT_TRUE(absl::IsOutOfRange(records.read("j", RecordKind::kLogs, position, 100).status())) << position;
  }
  EXPECT_TRUE(records.read("j", RecordKind::kLogs, 33, 100).ok());
  EXPECT_TRUE(records.read("unknown", RecordKind::kLogs, 0, 100)->empty());
}

}  // namespace
}  // namespace qwen3::coordinator
