#include "worker/channel/channel.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>

#include "qwen3/internal/v1/rank.pb.h"

namespace qwen3::worker {
namespace {

using internal::v1::RankToDaemon;

// A Channel on one end and a bare socket on the other, so that a test can send bytes no Channel would.
struct Scene {
  Scene() {
    const auto pair = make_socket_pair();
    EXPECT_TRUE(pair.ok()) << pair.status();
    channel = std::make_unique<Channel>(pair->first);
    raw = pair->second;
  }
  ~Scene() {
    if (raw >= 0) ::close(raw);
  }
  void close_raw() {
    ::close(raw);
    raw = -1;
  }
  void write_raw(const std::string& bytes) {
    ASSERT_EQ(::send(raw, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }
  std::unique_ptr<Channel> channel;
  int raw = -1;
};

RankToDaemon progress(const std::string& unit) {
  RankToDaemon message;
  message.mutable_progress()->set_unit(unit);
  return message;
}

std::string frame(const RankToDaemon& message) {
  const std::string body = message.SerializeAsString();
  std::string prefix(4, '\0');
  for (int i = 0; i < 4; ++i) prefix[i] = static_cast<char>(body.size() >> (8 * i));
  return prefix + body;
}

TEST(Channel, MessagesArriveWholeAndInOrder) {
  const auto pair = make_socket_pair();
  ASSERT_TRUE(pair.ok());
  Channel left(pair->first), right(pair->second);
  const std::string big(4 << 20, 'x');  // far over the socket's buffer: send() must go on after partial writes
  std::thread sender([&] {
    EXPECT_TRUE(left.send(progress("first")).ok());
    EXPECT_TRUE(left.send(progress(big)).ok());
    EXPECT_TRUE(left.send(RankToDaemon()).ok());  // no bytes at all behind the prefix
  });
  RankToDaemon got;
  EXPECT_TRUE(right.receive(got).ok());
  EXPECT_EQ(got.progress().unit(), "first");
  EXPECT_TRUE(right.receive(got).ok());
  EXPECT_EQ(got.progress().unit(), big);
  EXPECT_TRUE(right.receive(got).ok());
  EXPECT_EQ(got.message_case(), RankToDaemon::MESSAGE_NOT_SET);
  sender.join();
}

TEST(Channel, AMessageThatArrivesByteByByteIsOneMessage) {
  Scene scene;
  const std::string bytes = frame(progress("loading"));
  std::thread sender([&] {
    for (char byte : bytes) scene.write_raw(std::string(1, byte));
  });
  RankToDaemon got;
  EXPECT_TRUE(scene.channel->receive(got).ok());
  EXPECT_EQ(got.progress().unit(), "loading");
  sender.join();
}

TEST(Channel, TheFormatIsAFourByteLittleEndianLength) {
  Scene scene;
  const RankToDaemon message = progress(std::string(0x123, 'y'));
  ASSERT_TRUE(scene.channel->send(message).ok());
  std::string got(frame(message).size(), '\0');
  ASSERT_EQ(::recv(scene.raw, got.data(), got.size(), MSG_WAITALL), static_cast<ssize_t>(got.size()));
  EXPECT_EQ(got, frame(message));
}

TEST(Channel, ALengthOverTheLimitIsRefusedWithoutReadingIt) {
  Scene scene;
  scene.write_raw(std::string("\x01\x00\x00\x01", 4));  // 16 MiB + 1
  RankToDaemon got;
  const absl::Status status = scene.channel->receive(got);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_NE(status.message().find("16777217"), absl::string_view::npos) << status;
}

TEST(Channel, AMessageOverTheLimitIsNotSent) {
  Scene scene;
  EXPECT_TRUE(absl::IsInvalidArgument(scene.channel->send(progress(std::string(kMaxMessageBytes, 'z')))));
  ASSERT_TRUE(scene.channel->send(progress("next")).ok());  // the stream is still in step
  std::string got(frame(progress("next")).size(), '\0');
  ASSERT_EQ(::recv(scene.raw, got.data(), got.size(), MSG_WAITALL), static_cast<ssize_t>(got.size()));
  EXPECT_EQ(got, frame(progress("next")));
}

TEST(Channel, BytesThatAreNoMessageAreNamed) {
  Scene scene;
  scene.write_raw(std::string("\x02\x00\x00\x00\xff\xff", 6));
  RankToDaemon got;
  const absl::Status status = scene.channel->receive(got);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_NE(status.message().find("qwen3.internal.v1.RankToDaemon"), absl::string_view::npos) << status;
}

TEST(Channel, APeerThatClosesInTheMiddleOfAMessageIsUnavailable) {
  Scene scene;
  scene.write_raw(frame(progress("half")).substr(0, 5));
  scene.close_raw();
  RankToDaemon got;
  EXPECT_TRUE(absl::IsUnavailable(scene.channel->receive(got)));
  EXPECT_TRUE(absl::IsUnavailable(scene.channel->send(progress("late"))));  // and no SIGPIPE
}

TEST(Channel, ShutdownWakesAReaderAfterWhatHasArrived) {
  Scene scene;
  scene.write_raw(frame(progress("last words")));
  scene.channel->shutdown();
  RankToDaemon got;
  EXPECT_TRUE(scene.channel->receive(got).ok());
  EXPECT_EQ(got.progress().unit(), "last words");
  EXPECT_TRUE(absl::IsUnavailable(scene.channel->receive(got)));
}

TEST(Channel, APeerThatDoesNotReadEndsASendAfterItsTimeout) {
  Scene scene;
  scene.channel->set_send_timeout(/*milliseconds=*/20);
  EXPECT_TRUE(absl::IsDeadlineExceeded(scene.channel->send(progress(std::string(8 << 20, 'w')))));
}

}  // namespace
}  // namespace qwen3::worker
