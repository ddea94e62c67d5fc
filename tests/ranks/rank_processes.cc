#include "tests/ranks/rank_processes.h"

#include <ATen/Parallel.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <stdexcept>

#include "kernels/cpu/recycling_allocator.h"

namespace qwen3::testing {
namespace {

constexpr int kReports = 3;  // the file descriptor

// Two pipes to a child: lines it writes, lines it reads.
struct Child {
  pid_t pid;
  FILE* from;
  FILE* to;
};

Child start(int64_t rank, int64_t ranks, const std::string& name, const std::string& argument) {
  std::array<int, 2> up, down;
  if (pipe(up.data()) != 0 || pipe(down.data()) != 0) throw std::runtime_error("pipe");
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(down[0], STDIN_FILENO);
    dup2(up[1], kReports);
    dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);  // its report would repeat this one's
    setenv("QWEN3_TEST_RANK", std::to_string(rank).c_str(), 1);
    setenv("QWEN3_TEST_RANKS", std::to_string(ranks).c_str(), 1);
    setenv("QWEN3_TEST_ARGUMENT", argument.c_str(), 1);
    execl("/proc/self/exe", "a_rank", ("--gtest_filter=" + name).c_str(), nullptr);
    _exit(127);
  }
  close(up[1]);
  close(down[0]);
  return {pid, fdopen(up[0], "r"), fdopen(down[1], "w")};
}

bool read_number(FILE* file, int64_t& number) {
  long long value = 0;
  if (std::fscanf(file, "%lld", &value) != 1) return false;
  number = value;
  return true;
}

void write_number(FILE* file, int64_t number) {
  std::fprintf(file, "%lld\n", static_cast<long long>(number));
  std::fflush(file);
}

}  // namespace

std::vector<std::vector<int64_t>> run_rank_processes(int64_t ranks, const std::string& name,
                                                     const std::string& argument) {
  std::vector<Child> children;
  for (int64_t rank = 0; rank < ranks; ++rank) children.push_back(start(rank, ranks, name, argument));
  int64_t port = -1;
  EXPECT_TRUE(read_number(children[0].from, port)) << "the first rank has no store";
  for (const Child& child : children) {
    write_number(child.to, port);
    std::fclose(child.to);
  }
  std::vector<std::vector<int64_t>> reports(children.size());
  for (size_t rank = 0; rank < children.size(); ++rank) {
    int64_t number = 0;
    while (read_number(children[rank].from, number)) reports[rank].push_back(number);
    std::fclose(children[rank].from);
    int status = 0;
    waitpid(children[rank].pid, &status, 0);
    EXPECT_EQ(status, 0) << "rank " << rank;
  }
  return reports;
}

std::unique_ptr<ThisRank> ThisRank::find() {
  const char* rank = std::getenv("QWEN3_TEST_RANK");
  if (rank == nullptr) return nullptr;
  return std::unique_ptr<ThisRank>(
      new ThisRank(std::atoll(rank), std::atoll(std::getenv("QWEN3_TEST_RANKS")), std::getenv("QWEN3_TEST_ARGUMENT")));
}

ThisRank::ThisRank(int64_t rank, int64_t ranks, std::string argument)
    : rank_(rank), ranks_(ranks), argument_(std::move(argument)), out_(fdopen(kReports, "w")) {
  at::set_num_threads(1);
  kernels::install_recycling_allocator();
  if (rank_ == 0) {
    store_ = parallel::Rendezvous::host(0, ranks_, "test");
    report(store_->port());
  }
  int64_t port = -1;
  if (!read_number(stdin, port)) throw std::runtime_error("no port came");
  address_ = "127.0.0.1:" + std::to_string(port);
}

ThisRank::~ThisRank() { std::fclose(out_); }

std::shared_ptr<parallel::Rendezvous> ThisRank::rendezvous(const std::string& prefix) const {
  return parallel::Rendezvous::join(address_, ranks_, prefix);
}

void ThisRank::report(int64_t number) { write_number(out_, number); }

}  // namespace qwen3::testing
