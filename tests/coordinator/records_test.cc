#include "coordinator/records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>

#include "tests/temporary_folder.h"

namespace {
std::atomic<bool> disk_fails = false;
}  // namespace

// In the place of libc's, so that a disk can fail.
extern "C" ssize_t pread(int fd, void* into, size_t size, off_t offset) {
  if (!disk_fails) return syscall(SYS_pread64, fd, into, size, offset);
  errno = EIO;
  return -1;
}

namespace qwen3::coordinator {
namespace {

class RecordsTest : public ::testing::Test {
 protected:
  // Appends and waits; returns the fresh ones.
  static std::vector<Record> append(Records& records, std::vector<Record> batch, RecordKind kind = RecordKind::kLogs) {
    std::promise<std::vector<Record>> done;
    records.append("j", kind, std::move(batch), [&](const absl::Status& status, std::vector<Record> fresh) {
      EXPECT_TRUE(status.ok()) << status;
      done.set_value(std::move(fresh));
    });
    return done.get_future().get();
  }
  // A line that a rank printed.
  static Record line(int32_t rank, int64_t seq, int64_t dropped_before = 0) {
    v1::LogRecord log;
    log.set_attempt(1);
    log.set_rank(rank);
    log.set_seq(seq);
    log.set_line("line " + std::to_string(seq));
    log.set_dropped(dropped_before);
    return {1, rank, seq, log.SerializeAsString()};
  }
  // All logs as "RANK.SEQ LINE", those that tell of dropped lines as "RANK.SEQ -N".
  static std::vector<std::string> read_lines(Records& records) {
    std::vector<std::string> lines;
    for (const std::string& payload : read(records)) {
      v1::LogRecord log;
      EXPECT_TRUE(log.ParseFromString(payload));
      lines.push_back(std::to_string(log.rank()) + "." + std::to_string(log.seq()) + " " +
                      (log.line().empty() ? "-" + std::to_string(log.dropped()) : log.line()));
    }
    return lines;
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

TEST_F(RecordsTest, ADiskThatCannotBeReadLosesNoRecord) {
  {
    Records records(folder_.path());
    append(records, {{1, 0, 1, "a"}, {1, 0, 2, "b"}});
  }
  Records records(folder_.path());
  disk_fails = true;
  EXPECT_TRUE(absl::IsInternal(records.read("j", RecordKind::kLogs, 0, 100).status()));
  std::promise<absl::Status> refused;
  records.append("j", RecordKind::kLogs, {{1, 0, 3, "c"}},
                 [&](const absl::Status& status, const std::vector<Record>&) { refused.set_value(status); });
  EXPECT_TRUE(absl::IsInternal(refused.get_future().get())) << "it would have been written over the first record";
  disk_fails = false;
  append(records, {{1, 0, 3, "c"}});
  EXPECT_THAT(read(records), ElementsAre("a", "b", "c"));
}

TEST_F(RecordsTest, WithoutRoomLogsAreDroppedAndCountedButNoMetrics) {
  std::atomic<bool> room = true;
  Records records(folder_.path(), [&] { return room.load(); });
  append(records, {line(0, 1), line(1, 1)});
  room = false;
  EXPECT_THAT(append(records, {line(0, 2), line(0, 3, /*dropped_before=*/4), line(1, 2)}), SizeIs(0));
  append(records, {line(0, 1), line(0, 3), line(1, 2), line(1, 3)});  // the first three are sent again
  EXPECT_THAT(append(records, {{1, 0, 1, "report"}}, RecordKind::kMetrics), SizeIs(1));
  EXPECT_THAT(read_lines(records), ElementsAre("0.1 line 1", "1.1 line 1"));
  room = true;
  append(records, {line(0, 3), line(0, 4)});
  EXPECT_THAT(read_lines(records), ElementsAre("0.1 line 1", "1.1 line 1", "0.3 -6", "1.3 -2", "0.4 line 4"));
  append(records, {line(0, 5)});
  EXPECT_THAT(read_lines(records), SizeIs(6)) << "it is told once";
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
