// What a rank of a sharded run holds at most, as the counting allocator sees it. Every rank is a process of its own:
// the allocator counts a process.
#include <ATen/Parallel.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/cpu/recycling_allocator.h"
#include "spec/estimate.h"
#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"
#include "worker/rank/trainer.h"

namespace qwen3::testing {
namespace {

constexpr int64_t kRanks = 4, kMiB = 1 << 20;

// Blocks of 12 MiB, few tokens: what is measured are weights.
spec::RunSpec run_of(bool reshard) {
  spec::RunSpec run = tiny_run(data_parallel_mesh(1, kRanks), /*tied=*/false);
  run.model.dim = 512;
  run.model.layers = 12;
  run.model.heads = 8;
  run.model.kv_heads = 4;
  run.model.head_dim = 64;
  run.model.ffn_hidden = 1536;
  run.model.vocab = 2048;
  run.data.local_batch_size = 1;
  run.data.seq_len = 32;
  run.global_batch_size = 2 * kRanks;
  run.microbatches_per_rank = 2;
  run.ordered = false;
  run.reshard_after_forward = reshard;
  return run;
}

// Two pipes to a child: lines it writes, lines it reads.
struct Child {
  pid_t pid;
  FILE* from;
  FILE* to;
};

// This very test binary as rank `rank`: runs ARankOfItsOwn below and nothing else.
Child start_rank(int64_t rank, bool reshard) {
  std::array<int, 2> up, down;
  if (pipe(up.data()) != 0 || pipe(down.data()) != 0) throw std::runtime_error("pipe");
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(down[0], STDIN_FILENO);
    dup2(up[1], 3);
    dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);  // its report would repeat this one's
    setenv("QWEN3_TEST_RANK", std::to_string(rank).c_str(), 1);
    setenv("QWEN3_TEST_RESHARD", reshard ? "1" : "0", 1);
    execl("/proc/self/exe", "fsdp_memory_test", "--gtest_filter=FsdpMemory.ARankOfItsOwn", nullptr);
    _exit(127);
  }
  close(up[1]);
  close(down[0]);
  return {pid, fdopen(up[0], "r"), fdopen(down[1], "w")};
}

int64_t number_from(FILE* file) {
  long long number = -1;
  return std::fscanf(file, "%lld", &number) == 1 ? number : -1;
}

// The most bytes that any rank had.
int64_t peak_of(bool reshard) {
  std::vector<Child> ranks;
  for (int64_t rank = 0; rank < kRanks; ++rank) ranks.push_back(start_rank(rank, reshard));
  const int64_t port = number_from(ranks[0].from);
  for (int64_t rank = 1; rank < kRanks; ++rank) {
    std::fprintf(ranks[static_cast<size_t>(rank)].to, "%lld\n", static_cast<long long>(port));
    std::fflush(ranks[static_cast<size_t>(rank)].to);
  }
  int64_t most = 0;
  for (const Child& child : ranks) {
    most = std::max(most, number_from(child.from));
    std::fclose(child.from);
    std::fclose(child.to);
    int status = 0;
    waitpid(child.pid, &status, 0);
    EXPECT_EQ(status, 0);
  }
  return most;
}

TEST(FsdpMemory, ARankOfItsOwn) {
  const char* number = std::getenv("QWEN3_TEST_RANK");
  if (number == nullptr) GTEST_SKIP() << "a rank of the other tests, which start it";
  const int64_t rank = std::atoll(number);
  FILE* out = fdopen(3, "w");
  at::set_num_threads(1);
  kernels::install_recycling_allocator();
  std::shared_ptr<parallel::Rendezvous> store;
  if (rank == 0) {
    store = parallel::Rendezvous::host(0, kRanks, "memory");
    std::fprintf(out, "%d\n", store->port());
    std::fflush(out);
  } else {
    store = parallel::Rendezvous::join("127.0.0.1:" + std::to_string(number_from(stdin)), kRanks, "memory");
  }
  const spec::RunSpec run = run_of(std::string(std::getenv("QWEN3_TEST_RESHARD")) == "1");
  const parallel::DeviceMesh mesh(run.mesh, rank, store.get());
  rank::Trainer trainer(run, mesh, {std::make_shared<SyntheticText>(50, run.data.seq_len, run.model.vocab), nullptr});
  kernels::reset_peak();
  trainer.step(1, {});
  trainer.step(2, {});
  std::fprintf(out, "%lld\n", static_cast<long long>(kernels::peak_bytes()));
  std::fclose(out);
}

TEST(FsdpMemory, IsShardsTwoGatheredUnitsAndOneUnitsGradients) {
  const spec::ModelShape model = run_of(true).model;
  const int64_t all = spec::parameter_count(model);
  const int64_t unit = 4 * (all - 2 * model.vocab * model.dim - model.dim) / model.layers;
  ASSERT_GE(unit, 4 * kMiB);
  const int64_t shards = 16 * all / kRanks;  // float32 weights, their gradients' sums, and two moments
  const int64_t exchange = 2 * unit;         // what is sent and what comes
  const int64_t formula = shards + 2 * unit + unit + exchange + spec::estimate_bytes_per_rank(run_of(true)).activations;
  const int64_t peak = peak_of(true);
  std::printf("peak %.1f MiB, formula %.1f MiB, one unit %.1f MiB\n", static_cast<double>(peak) / kMiB,
              static_cast<double>(formula) / kMiB, static_cast<double>(unit) / kMiB);
  EXPECT_NEAR(static_cast<double>(peak), static_cast<double>(formula),
              std::max(0.1 * static_cast<double>(formula), static_cast<double>(unit)));
  const int64_t never = peak_of(false);
  std::printf("never resharded: %.1f MiB\n", static_cast<double>(never) / kMiB);
  EXPECT_LE(static_cast<double>(peak), 0.75 * static_cast<double>(never));
}

}  // namespace
}  // namespace qwen3::testing
