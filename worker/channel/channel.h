// Length-prefixed protobuf messages over a connected socket pair, between a daemon and a rank process: a 4-byte
// little-endian length, then that many bytes. No gRPC, so that a rank links none.
#pragma once
#include <google/protobuf/message_lite.h>

#include <mutex>

#include "absl/status/status.h"

namespace qwen3::worker {

inline constexpr int kMaxMessageBytes = 16 << 20;

class Channel {
 public:
  // Owns `fd`, a connected stream socket.
  explicit Channel(int fd);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Blocks until all of it is in the socket's buffer; any thread. UNAVAILABLE: the peer is gone.
  absl::Status send(const google::protobuf::MessageLite& message);
  // Blocks for the next message; one thread. UNAVAILABLE: the peer closed. INVALID_ARGUMENT: not our format.
  absl::Status receive(google::protobuf::MessageLite& message);
  // Wakes a blocked receive() with UNAVAILABLE.
  void shutdown();

 private:
  int fd_;
  std::mutex send_mutex_;
};

}  // namespace qwen3::worker
