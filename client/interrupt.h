// While it lives, the first Ctrl-C (or SIGTERM) asks the token to stop instead of ending the process; the second ends
// it. Make it before the first thread of the process, so that no other thread takes the signal.
#pragma once
#include <csignal>
#include <stop_token>
#include <thread>

namespace qwen3::client {

class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  std::stop_token token() const { return source_.get_token(); }

 private:
  void listen();

  std::stop_source source_;
  sigset_t old_mask_;
  int signals_;  // signalfd
  int wake_;     // eventfd: the listener shall end
  std::thread listener_;
};

}  // namespace qwen3::client
