#include "tests/e2e/cutting_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <stdexcept>

namespace qwen3::e2e {
namespace {

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

bool write_all(int fd, const char* data, ssize_t size) {
  while (size > 0) {
    const ssize_t written = send(fd, data, size, MSG_NOSIGNAL);
    if (written <= 0) return false;
    data += written;
    size -= written;
  }
  return true;
}

}  // namespace

CuttingProxy::CuttingProxy(int target_port, int cuts, int max_bytes, unsigned seed)
    : target_port_(target_port), max_bytes_(max_bytes), cuts_left_(cuts), random_(seed) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof(address);
  if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener_, 16) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw std::runtime_error("the proxy cannot listen");
  }
  port_ = ntohs(address.sin_port);
  wake_ = eventfd(0, EFD_CLOEXEC);
  thread_ = std::thread([this] { serve(); });
}

CuttingProxy::~CuttingProxy() {
  eventfd_write(wake_, 1);
  thread_.join();
  close(listener_);
  close(wake_);
}

void CuttingProxy::serve() {
  while (true) {
    pollfd waits[] = {{listener_, POLLIN, 0}, {wake_, POLLIN, 0}};
    poll(waits, 2, -1);
    if (waits[1].revents != 0) return;
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in target = loopback(target_port_);
    if (connect(server, reinterpret_cast<const sockaddr*>(&target), sizeof(target)) == 0) {
      const bool cut = cuts_left_ > 0;
      forward(client, server, cut ? static_cast<int>(random_() % max_bytes_) : INT_MAX);
      if (cut) --cuts_left_;
    }
    close(client);
    close(server);
  }
}

void CuttingProxy::forward(int client, int server, int limit) {
  char buffer[4096];
  while (limit > 0) {
    pollfd waits[] = {{client, POLLIN, 0}, {server, POLLIN, 0}, {wake_, POLLIN, 0}};
    poll(waits, 3, -1);
    if (waits[2].revents != 0) return;
    if (waits[0].revents != 0) {
      const ssize_t size = read(client, buffer, sizeof(buffer));
      if (size <= 0 || !write_all(server, buffer, size)) return;
    }
    if (waits[1].revents != 0) {
      const ssize_t size = read(server, buffer, std::min<size_t>(sizeof(buffer), limit));
      if (size <= 0 || !write_all(client, buffer, size)) return;
      limit -= static_cast<int>(size);
    }
  }
}

}  // namespace qwen3::e2e
