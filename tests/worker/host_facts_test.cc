// What a daemon finds out about its host, what it makes of its options, and what it hands to ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "qwen3/internal/v1/rank.pb.h"
#include "tests/temporary_folder.h"
#include "worker/daemon/coordinator_link.h"
#include "worker/daemon/event_loop.h"
#include "worker/daemon/host.h"
#include "worker/daemon/oom.h"
#include "worker/daemon/options_check.h"
#include "worker/daemon/rank_environment.h"

namespace qwen3::worker {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string message(const absl::Status& status) { return std::string(status.message()); }

// A folder that stands for "/".
class OomCounterTest : public ::testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  const qwen3::tests::TemporaryFolder folder_{"oom"};
  const std::filesystem::path root_ = folder_.path();
};

TEST_F(OomCounterTest, CountsInTheCgroupOfVersion2) {
  write("proc/self/cgroup", "0::/system.slice/worker\n");
  write("sys/fs/cgroup/system.slice/worker/memory.events", "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\n");
  OomCounter counter(root_);
  EXPECT_FALSE(counter.increased());  // 2 happened before
  write("sys/fs/cgroup/system.slice/worker/memory.events", "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\n");
  EXPECT_TRUE(counter.increased());
  EXPECT_FALSE(counter.increased());
}

TEST_F(OomCounterTest, CountsInTheMemoryCgroupOfVersion1) {
  write("proc/self/cgroup", "5:cpu:/\n4:memory:/box\n0::/\n");
  write("sys/fs/cgroup/memory/box/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
  OomCounter counter(root_);
  write("sys/fs/cgroup/memory/box/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
  EXPECT_TRUE(counter.increased());
}

TEST_F(OomCounterTest, InAContainerTheMountItselfIsTheCgroup) {
  write("proc/self/cgroup", "0::/docker/0123abcd\n");
  write("sys/fs/cgroup/memory.events", "oom_kill 0\n");
  OomCounter counter(root_);
  write("sys/fs/cgroup/memory.events", "oom_kill 1\n");
  EXPECT_TRUE(counter.increased());
}

TEST_F(OomCounterTest, WithoutACgroupTheHostCounts) {
  write("proc/vmstat", "nr_free_pages 12\noom_kill 5\n");
  OomCounter counter(root_);
  EXPECT_FALSE(counter.increased());
  write("proc/vmstat", "nr_free_pages 12\noom_kill 6\n");
  EXPECT_TRUE(counter.increased());
}

TEST_F(OomCounterTest, WithoutAnyCounterNothingIsCalledOutOfMemory) {
  OomCounter counter(root_);
  EXPECT_FALSE(counter.increased());
}

TEST(Host, AHostNameBecomesAWorkerId) {
  EXPECT_EQ(worker_id_from_hostname("GPU-07.rack_3.example"), "gpu-07-rack-3-example");
  EXPECT_EQ(worker_id_from_hostname(""), "worker");
  EXPECT_EQ(worker_id_from_hostname(std::string(100, 'a')), std::string(63, 'a'));
}

TEST(Host, TwoStartsHaveDifferentIncarnations) {
  EXPECT_EQ(random_incarnation().size(), 16u);
  EXPECT_NE(random_incarnation(), random_incarnation());
}

TEST(Advertise, HostAndInterfaceAreTakenApart) {
  const auto parse = [](const std::string& text) {
    DaemonOptions options;
    const absl::Status status = set_advertise(text, options);
    return status.ok() ? options.advertise_address + "|" + options.advertise_interface : message(status);
  };
  EXPECT_EQ(parse("10.0.0.7"), "10.0.0.7|");
  EXPECT_EQ(parse("10.0.0.7:eth0"), "10.0.0.7|eth0");
  EXPECT_EQ(parse("[fd00::7]:eth0"), "fd00::7|eth0");
  EXPECT_EQ(parse("[fd00::7]"), "fd00::7|");
  for (const char* bad : {"", ":eth0", "host:", "a:b:c", "[fd00::7", "[fd00::7]eth0"}) {
    EXPECT_THAT(parse(bad), StartsWith("--advertise wants HOST or HOST:INTERFACE")) << bad;
  }
}

TEST(Options, EachBadOneIsNamedWithWhatItGotAndWants) {
  DaemonOptions good;
  good.worker_id = "host-1";
  good.rank_binary = "/bin/true";
  EXPECT_TRUE(check_options(good).ok()) << check_options(good);
  DaemonOptions options = good;
  options.coordinator = "somewhere";
  EXPECT_EQ(message(check_options(options)), "--coordinator wants HOST:PORT, but got 'somewhere'");
  options.coordinator = "host:70000";
  EXPECT_EQ(message(check_options(options)), "--coordinator wants HOST:PORT, but got 'host:70000'");
  options = good;
  options.worker_id = "Host_1";
  EXPECT_EQ(message(check_options(options)), "--id wants 1 to 63 characters of [a-z0-9-], but got 'Host_1'");
  options = good;
  options.slots = 0;
  EXPECT_EQ(message(check_options(options)), "--slots wants at least 1, but got 0");
  options = good;
  options.rank_binary = "/nowhere/qwen3-rank";
  EXPECT_EQ(message(check_options(options)), "--rank-binary /nowhere/qwen3-rank: No such file or directory");
}

TEST(RankEnvironment, ThreadsAreTheJobsWishThenOneWhenOrderedThenTheShareOfTheCores) {
  internal::v1::RankAssignment assignment;
  EXPECT_EQ(threads_of_rank(assignment, /*cores=*/16, /*slots=*/4), 4);
  EXPECT_EQ(threads_of_rank(assignment, /*cores=*/2, /*slots=*/4), 1);
  assignment.mutable_spec()->mutable_debug()->set_ordered(true);
  EXPECT_EQ(threads_of_rank(assignment, 16, 4), 1);
  assignment.mutable_spec()->mutable_resources()->set_threads_per_rank(3);
  EXPECT_EQ(threads_of_rank(assignment, 16, 4), 3);
}

TEST(RankEnvironment, ACudaRankSeesItsDeviceAlone) {
  internal::v1::RankAssignment assignment;
  assignment.set_slot(1);
  DaemonOptions options;
  const std::map<std::string, std::string> own = {{"CUDA_VISIBLE_DEVICES", "4,6"}};
  const auto variable = [&](const char* name) {
    const auto it = own.find(name);
    return it == own.end() ? nullptr : it->second.c_str();
  };
  EXPECT_THAT(rank_environment(assignment, options, 8, variable), Not(Contains(HasSubstr("CUDA"))));
  options.device_kind = "cuda";
  EXPECT_THAT(rank_environment(assignment, options, 8, variable), Contains("CUDA_VISIBLE_DEVICES=6"));
  EXPECT_THAT(rank_environment(assignment, options, 8, [](const char*) { return nullptr; }),
              Contains("CUDA_VISIBLE_DEVICES=1"));
  assignment.set_slot(-1);
  EXPECT_THAT(rank_environment(assignment, options, 8, variable), Contains("CUDA_VISIBLE_DEVICES="))
      << "a rank without a slot sees none";
}

TEST(Backoff, DoublesFromATenthOfASecondToTwoWithJitterAndStartsAnewWhenReset) {
  Backoff backoff(/*seed=*/1);
  for (double limit : {0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0}) {
    const double seconds = std::chrono::duration<double>(backoff.next()).count();
    EXPECT_LE(seconds, limit);
    EXPECT_GE(seconds, limit / 2);
  }
  backoff.reset();
  EXPECT_LE(std::chrono::duration<double>(backoff.next()).count(), 0.1);
  EXPECT_NE(Backoff(1).next(), Backoff(2).next());  // two daemons do not come back at once
}

TEST(EventLoop, TasksRunInOrderAndTimersByTheirTime) {
  EventLoop loop;
  std::vector<int> order;
  loop.after(std::chrono::milliseconds(20), [&] { order.push_back(4); });
  loop.after(std::chrono::milliseconds(30), [&] { loop.stop(); });
  loop.after(std::chrono::milliseconds(1), [&] { order.push_back(3); });
  loop.post([&] { order.push_back(1); });
  loop.post([&] { order.push_back(2); });
  loop.run();
  EXPECT_THAT(order, ElementsAre(1, 2, 3, 4));
}

}  // namespace
}  // namespace qwen3::worker
