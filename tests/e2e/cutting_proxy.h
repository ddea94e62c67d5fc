// A TCP proxy on loopback that closes connections at random moments, for tests of streams.
#pragma once
#include <atomic>
#include <random>
#include <string>
#include <thread>

namespace qwen3::e2e {

class CuttingProxy {
 public:
  // Forwards to 127.0.0.1:target_port, one connection at a time. The first `cuts` connections are cut after a random
  // number of bytes from the server, at most `max_bytes`.
  CuttingProxy(int target_port, int cuts, int max_bytes, unsigned seed);
  ~CuttingProxy();

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  int cuts_left() const { return cuts_left_; }

 private:
  void serve();
  void forward(int client, int server, int limit);

  const int target_port_;
  const int max_bytes_;
  std::atomic<int> cuts_left_;
  std::minstd_rand random_;
  int port_ = 0;
  int listener_ = -1;
  int wake_ = -1;  // eventfd: end
  std::thread thread_;
};

}  // namespace qwen3::e2e
