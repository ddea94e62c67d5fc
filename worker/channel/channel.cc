#include "worker/channel/channel.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

namespace qwen3::worker {
namespace {

constexpr size_t kPrefixBytes = 4;

absl::Status peer_gone(const char* what) { return absl::UnavailableError(std::string("control socket: ") + what); }

absl::Status send_all(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t sent = ::send(fd, data, size, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return absl::DeadlineExceededError("control socket: the peer does not read");
      return peer_gone(std::strerror(errno));
    }
    data += sent;
    size -= static_cast<size_t>(sent);
  }
  return absl::OkStatus();
}

absl::Status receive_all(int fd, char* data, size_t size) {
  while (size > 0) {
    const ssize_t got = ::recv(fd, data, size, 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      return peer_gone(std::strerror(errno));
    }
    if (got == 0) return peer_gone("closed by the peer");
    data += got;
    size -= static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

}  // namespace

Channel::Channel(int fd) : fd_(fd) { ::fcntl(fd_, F_SETFD, FD_CLOEXEC); }

Channel::~Channel() { ::close(fd_); }

absl::Status Channel::send(const google::protobuf::MessageLite& message) {
  const size_t size = message.ByteSizeLong();
  if (size > kMaxMessageBytes) {
    return absl::InvalidArgumentError("control socket: a message has " + std::to_string(size) + " bytes, but at most " +
                                      std::to_string(kMaxMessageBytes) + " are allowed");
  }
  std::string frame;
  frame.reserve(kPrefixBytes + size);
  for (size_t i = 0; i < kPrefixBytes; ++i) frame.push_back(static_cast<char>(size >> (8 * i) & 0xff));
  message.AppendToString(&frame);
  const std::lock_guard lock(send_mutex_);
  return send_all(fd_, frame.data(), frame.size());
}

absl::Status Channel::receive(google::protobuf::MessageLite& message) {
  unsigned char prefix[kPrefixBytes];
  if (absl::Status status = receive_all(fd_, reinterpret_cast<char*>(prefix), kPrefixBytes); !status.ok()) {
    return status;
  }
  uint32_t size = 0;
  for (size_t i = 0; i < kPrefixBytes; ++i) size |= static_cast<uint32_t>(prefix[i]) << (8 * i);
  if (size > kMaxMessageBytes) {
    return absl::InvalidArgumentError("control socket: a length prefix says " + std::to_string(size) +
                                      " bytes, but at most " + std::to_string(kMaxMessageBytes) + " are allowed");
  }
  std::string body(size, '\0');
  if (absl::Status status = receive_all(fd_, body.data(), size); !status.ok()) return status;
  if (!message.ParseFromString(body)) {
    return absl::InvalidArgumentError("control socket: " + std::to_string(size) + " bytes are not a " +
                                      message.GetTypeName());
  }
  return absl::OkStatus();
}

void Channel::shutdown() { ::shutdown(fd_, SHUT_RDWR); }

void Channel::set_send_timeout(int milliseconds) {
  const timeval timeout{milliseconds / 1000, milliseconds % 1000 * 1000};
  ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
}

absl::StatusOr<std::pair<int, int>> make_socket_pair() {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
    return absl::ResourceExhaustedError(std::string("no socket pair: ") + std::strerror(errno));
  }
  return std::pair{fds[0], fds[1]};
}

}  // namespace qwen3::worker
