#include "bench/rank_processes.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <system_error>

namespace qwen3::bench {
namespace {

void check(bool holds, const char* what) {
  if (!holds) throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

RankProcesses::RankProcesses(int64_t world_size) {
  if (world_size == 1) return;
  constexpr const char* kPrefix = "bench";
  std::vector<int> writers;  // to each of the others, for the port of the store
  for (int64_t rank = 1; rank < world_size; ++rank) {
    std::array<int, 2> ends{};
    check(::pipe(ends.data()) == 0, "pipe");
    const pid_t child = ::fork();
    check(child >= 0, "fork");
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a rank without the first would wait for it until its time-out
      int port = 0;
      check(::read(ends[0], &port, sizeof(port)) == sizeof(port), "read the port of the store");
      rank_ = rank;
      others_.clear();
      store_ = parallel::Rendezvous::join("127.0.0.1:" + std::to_string(port), world_size, kPrefix);
      return;
    }
    ::close(ends[0]);
    writers.push_back(ends[1]);
    others_.push_back(child);
  }
  store_ = parallel::Rendezvous::host(/*port=*/0, world_size, kPrefix);
  const int port = store_->port();
  for (const int writer : writers) {
    check(::write(writer, &port, sizeof(port)) == sizeof(port), "write the port of the store");
    ::close(writer);
  }
}

bool RankProcesses::wait() const {
  bool all = true;
  for (const pid_t child : others_) {
    int status = 0;
    all &= ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  return all;
}

}  // namespace qwen3::bench
