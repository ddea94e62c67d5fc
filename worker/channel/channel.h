// Length-prefixed protobuf messages over a connected socket pair, between a daemon and a rank process: a 4-byte
// little-endian length, then that many bytes. No gRPC, so that a rank links none.
#pragma once
#include <google/protobuf/message_lite.h>

#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace qwen3::worker {

inline constexpr int kMaxMessageBytes = 16 << 20;

class Channel {
 public:
  // Owns `fd`, a connected stream socket, and keeps it from being inherited by further processes.
  explicit Channel(int fd);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Blocks until all of it is in the socket's buffer; any thread. UNAVAILABLE: the peer is gone. DEADLINE_EXCEEDED:
  // the peer read nothing for the time of set_send_timeout; the message may be half sent, so the channel is of no
  // further use. INVALID_ARGUMENT: larger than kMaxMessageBytes; nothing was sent.
  absl::Status send(const google::protobuf::MessageLite& message);
  // Blocks for the next message; one thread. UNAVAILABLE: the peer closed. INVALID_ARGUMENT: not our format.
  absl::Status receive(google::protobuf::MessageLite& message);
  // Wakes a blocked receive() with UNAVAILABLE, after it returned every message that has arrived.
  void shutdown();
  // How long send() waits for a peer that does not read. Default: for ever.
  void set_send_timeout(int milliseconds);

 private:
  int fd_;
  std::mutex send_mutex_;
};

// A connected pair of sockets; neither is inherited by a process that is started unless it is asked for.
absl::StatusOr<std::pair<int, int>> make_socket_pair();

}  // namespace qwen3::worker
