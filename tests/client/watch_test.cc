// The contract of client/watch.h: every record once, in order, whatever happens to the connection.
#include "client/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "absl/time/clock.h"
#include "tests/client/fake_server.h"

namespace qwen3::client {
namespace {

using testing::FakeServer;

constexpr char kJob[] = "tenants/default/jobs/a";

std::vector<int64_t> one_to(int64_t n) {
  std::vector<int64_t> seqs(n);
  std::iota(seqs.begin(), seqs.end(), 1);
  return seqs;
}

class Watch : public ::testing::Test {
 protected:
  void add_events(int count) {
    server_.jobs[kJob].set_name(kJob);
    for (int i = 0; i < count; ++i) {
      const int64_t seq = static_cast<int64_t>(server_.events.size()) + 1;
      server_.events.emplace_back().set_seq(seq);
    }
  }

  absl::Status watch(const WatchOptions& options = {}) {
    return watch_events(client_, kJob, options, [&](const v1::Event& event, const std::string& token) {
      seqs_.push_back(event.seq());
      token_ = token;
      if (on_event_) on_event_(event.seq());
    });
  }

  FakeServer server_;
  Client client_{{.address = server_.address()}};
  std::vector<int64_t> seqs_;
  std::string token_;
  std::function<void(int64_t)> on_event_;
};

TEST_F(Watch, CutAHundredTimesAtRandomSeesEveryEventOnceInOrder) {
  add_events(400);
  server_.cut_streams(100, /*seed=*/7);
  int reconnects = 0;

  const absl::Status end =
      watch({.backoff = absl::Milliseconds(1), .on_reconnect = [&](const absl::Status&) { ++reconnects; }});

  EXPECT_TRUE(end.ok()) << end;
  EXPECT_EQ(seqs_, one_to(400));
  EXPECT_EQ(server_.cuts_left(), 0);
  EXPECT_GT(reconnects, 50);  // not each cut: gRPC itself retries a call that failed before its first response
}

TEST_F(Watch, ARestartOfTheServerInTheMiddleIsNotSeen) {
  add_events(50);
  server_.hold_streams(true);
  std::thread restarter;
  on_event_ = [&](int64_t seq) {
    if (seq != 50) return;
    restarter = std::thread([&] {
      server_.restart();
      server_.hold_streams(false);
    });
  };
  const absl::Status end = watch();
  restarter.join();
  EXPECT_TRUE(end.ok()) << end;
  EXPECT_EQ(seqs_, one_to(50));
}

TEST_F(Watch, AServerThatDrainsIsCalledAgainWithTheToken) {
  add_events(10);
  server_.drain_streams(5);
  EXPECT_TRUE(watch().ok());
  EXPECT_EQ(seqs_, one_to(10));
  EXPECT_EQ(server_.streams(), 6);
}

TEST_F(Watch, TheTokenOfARecordContinuesRightAfterIt) {
  add_events(4);
  std::stop_source stop;
  on_event_ = [&](int64_t seq) {
    if (seq == 4) stop.request_stop();
  };
  server_.hold_streams(true);
  EXPECT_EQ(watch({.stop = stop.get_token()}).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(seqs_, one_to(4));

  server_.restart();  // no handler reads the events while they grow
  add_events(6);
  server_.hold_streams(false);
  EXPECT_TRUE(watch({.resume_token = token_}).ok());
  EXPECT_EQ(seqs_, one_to(10));
}

TEST_F(Watch, ASilentConnectionIsReplaced) {
  add_events(3);
  server_.mute_streams(2);
  EXPECT_TRUE(watch({.silence = absl::Milliseconds(50)}).ok());
  EXPECT_EQ(seqs_, one_to(3));
  EXPECT_EQ(server_.streams(), 3);
}

TEST_F(Watch, AnUnknownJobIsAnErrorAtOnce) {
  EXPECT_EQ(watch().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(server_.streams(), 1);
}

TEST_F(Watch, ATokenThatIsTooOldIsAnErrorAtOnce) {
  add_events(3);
  server_.fail_next(1, grpc::Status(grpc::StatusCode::OUT_OF_RANGE, "trimmed"));
  EXPECT_EQ(watch().code(), absl::StatusCode::kOutOfRange);
}

TEST_F(Watch, AServerThatNeverAnswersIsGivenUp) {
  server_.fail_next(100, grpc::Status(grpc::StatusCode::UNAVAILABLE, "away"));
  EXPECT_EQ(watch().code(), absl::StatusCode::kUnavailable);
  EXPECT_LE(server_.streams(), 16);  // four tries, each of which gRPC itself repeats up to four times
}

TEST_F(Watch, EndsWhenItsTimeIsOver) {
  add_events(1);
  server_.hold_streams(true);
  const absl::Time limit = absl::Now() + absl::Milliseconds(100);
  EXPECT_EQ(watch({.until = limit}).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(absl::Now(), limit);
  EXPECT_EQ(seqs_, one_to(1));
}

TEST_F(Watch, WithoutFollowItEndsAfterWhatExists) {
  add_events(2);
  server_.hold_streams(true);
  EXPECT_TRUE(watch({.follow = false}).ok());
  EXPECT_EQ(seqs_, one_to(2));
}

}  // namespace
}  // namespace qwen3::client
