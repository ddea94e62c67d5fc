#include "worker/daemon/log_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace qwen3::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::string kBad = "\xEF\xBF\xBD";  // U+FFFD

TEST(RepairUtf8, WellFormedTextIsUntouched) {
  const std::string text = "ascii, \xC3\xA9, \xE4\xB8\xAD\xE6\x96\x87, \xF0\x9F\x98\x80, \xF4\x8F\xBF\xBF";
  EXPECT_EQ(repair_utf8(text), text);
  EXPECT_EQ(repair_utf8(std::string("nul \0 stays", 11)), std::string("nul \0 stays", 11));
}

TEST(RepairUtf8, EachBadByteBecomesAReplacementCharacter) {
  EXPECT_EQ(repair_utf8("a\xFF"
                        "b"),
            "a" + kBad + "b");
  EXPECT_EQ(repair_utf8("\x80"), kBad);                                   // a continuation without a lead
  EXPECT_EQ(repair_utf8("\xC3"), kBad);                                   // cut short
  EXPECT_EQ(repair_utf8("\xE4\xB8"), kBad + kBad);                        // cut short
  EXPECT_EQ(repair_utf8("\xC0\xAF"), kBad + kBad);                        // overlong '/'
  EXPECT_EQ(repair_utf8("\xE0\x80\xAF"), kBad + kBad + kBad);             // overlong '/'
  EXPECT_EQ(repair_utf8("\xED\xA0\x80"), kBad + kBad + kBad);             // a surrogate
  EXPECT_EQ(repair_utf8("\xF4\x90\x80\x80"), kBad + kBad + kBad + kBad);  // over U+10FFFF
  EXPECT_EQ(repair_utf8("\xE4\xB8x"), kBad + kBad + "x");                 // the next character is kept
}

TEST(LineSplitter, LinesAreCutAtNewlinesWhereverTheReadsAreCut) {
  LineSplitter splitter;
  EXPECT_THAT(splitter.feed("one\ntw"), ElementsAre("one"));
  EXPECT_THAT(splitter.feed("o"), IsEmpty());
  EXPECT_THAT(splitter.feed("\n\nthree\r\nfour"), ElementsAre("two", "", "three"));
  EXPECT_THAT(splitter.finish(), ElementsAre("four"));
  EXPECT_THAT(splitter.finish(), IsEmpty());
}

TEST(LineSplitter, ACharacterThatIsCutByAReadIsWholeInTheLine) {
  LineSplitter splitter;
  EXPECT_THAT(splitter.feed("\xE4\xB8"), IsEmpty());
  EXPECT_THAT(splitter.feed("\xAD\n"), ElementsAre("\xE4\xB8\xAD"));
}

TEST(LineSplitter, ALongLineGoesOnInTheNextAndLosesNothing) {
  LineSplitter splitter;
  const std::string text(kMaxLineBytes * 2 + 5, 'x');
  const auto lines = splitter.feed(text + "\n");
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].size(), kMaxLineBytes);
  EXPECT_EQ(lines[1].size(), kMaxLineBytes);
  EXPECT_EQ(lines[0] + lines[1] + lines[2], text);
}

TEST(LineSplitter, ALineOfExactlyTheLimitIsOneLine) {
  LineSplitter splitter;
  const std::string text(kMaxLineBytes, 'x');
  EXPECT_THAT(splitter.feed(text), IsEmpty());
  EXPECT_THAT(splitter.feed("\n"), ElementsAre(text));
}

TEST(LineSplitter, NoCharacterIsCutInTwo) {
  LineSplitter splitter;
  std::string text(kMaxLineBytes - 2, 'x');
  text += "\xF0\x9F\x98\x80 behind";  // its four bytes lie across the limit
  const auto lines = splitter.feed(text + "\n");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0], std::string(kMaxLineBytes - 2, 'x'));
  EXPECT_EQ(lines[1], "\xF0\x9F\x98\x80 behind");
}

TEST(LineSplitter, GarbageStaysWithinTheLimitAfterItsRepair) {
  LineSplitter splitter;
  for (const std::string& line : splitter.feed(std::string(kMaxLineBytes * 3, '\xFF') + "\n")) {
    EXPECT_LE(line.size(), kMaxLineBytes);
    EXPECT_EQ(repair_utf8(line), line);
  }
}

class LogThrottleTest : public ::testing::Test {
 protected:
  // Whether a line of so many bytes passes; `dropped_` is what it tells.
  bool admit(size_t bytes = 10) {
    LogLine line{.line = std::string(bytes, 'x')};
    const bool passes = throttle_.admit(line, now_);
    dropped_ = line.dropped;
    return passes;
  }
  LogThrottle throttle_;
  LogThrottle::Time now_{std::chrono::hours(1)};
  int64_t dropped_ = 0;
};

TEST_F(LogThrottleTest, ABurstPassesTheRestIsDroppedAndTheNextLineTellsHowMuch) {
  for (int i = 0; i < LogThrottle::kLinesBurst; ++i) ASSERT_TRUE(admit());
  for (int i = 0; i < 7; ++i) EXPECT_FALSE(admit());
  now_ += std::chrono::seconds(1);
  EXPECT_TRUE(admit());
  EXPECT_EQ(dropped_, 7);
  EXPECT_TRUE(admit());
  EXPECT_EQ(dropped_, 0);
}

TEST_F(LogThrottleTest, AFloodPassesAtTheRate) {
  while (admit()) {
  }
  int passed = 0;
  for (int second = 0; second < 10; ++second) {
    now_ += std::chrono::seconds(1);
    for (int i = 0; i < 50'000; ++i) passed += admit();
  }
  EXPECT_EQ(passed, 10 * LogThrottle::kLinesPerSecond);
}

TEST_F(LogThrottleTest, BytesAreLimitedAsWell) {
  size_t bytes = 0;
  while (admit(kMaxLineBytes)) bytes += kMaxLineBytes;
  EXPECT_EQ(bytes, static_cast<size_t>(LogThrottle::kBytesBurst));
  EXPECT_EQ(throttle_.take_dropped(), 1);
  EXPECT_EQ(throttle_.take_dropped(), 0);
}

}  // namespace
}  // namespace qwen3::worker
