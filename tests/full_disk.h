// A disk that is full: no file of this process grows beyond some bytes as long as the object lives. Writes then end
// with EFBIG, which takes the same paths as ENOSPC.
#pragma once
#include <signal.h>
#include <sys/resource.h>

#include <stdexcept>

namespace qwen3::tests {

class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);  // its default ends the process
    if (getrlimit(RLIMIT_FSIZE, &before_) != 0) throw std::runtime_error("getrlimit");
    const rlimit limit = {bytes, before_.rlim_max};  // a soft limit: it can be lifted again
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) throw std::runtime_error("setrlimit");
  }
  ~FullDisk() { setrlimit(RLIMIT_FSIZE, &before_); }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  rlimit before_ = {};
};

}  // namespace qwen3::tests
