#include "client/interrupt.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "client/exit_code.h"

namespace qwen3::client {

Interrupt::Interrupt() {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGINT);
  sigaddset(&mask, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &mask, &old_mask_);
  signals_ = signalfd(-1, &mask, SFD_CLOEXEC);
  wake_ = eventfd(0, EFD_CLOEXEC);
  listener_ = std::thread([this] { listen(); });
}

Interrupt::~Interrupt() {
  eventfd_write(wake_, 1);
  listener_.join();
  close(signals_);
  close(wake_);
  pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
}

void Interrupt::listen() {
  while (true) {
    pollfd waits[] = {{signals_, POLLIN, 0}, {wake_, POLLIN, 0}};
    if (poll(waits, 2, -1) < 0) continue;
    if (waits[1].revents != 0) return;
    signalfd_siginfo signal;
    if (read(signals_, &signal, sizeof(signal)) != sizeof(signal)) continue;
    if (source_.stop_requested()) _exit(kDetached);
    source_.request_stop();
  }
}

}  // namespace qwen3::client
