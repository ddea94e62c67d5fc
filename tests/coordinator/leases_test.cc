#include "coordinator/leases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qwen3::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const absl::Time kBoot = absl::UnixEpoch();
absl::Time at(double seconds) { return kBoot + absl::Seconds(seconds); }

// expire() is called often, as the coordinator does; returns what was lost on the way.
std::vector<std::string> run(Leases& leases, double from, double to) {
  std::vector<std::string> lost;
  for (double now = from; now <= to; now += 0.5) {
    for (std::string& worker : leases.expire(at(now))) lost.push_back(std::move(worker));
  }
  return lost;
}

TEST(Leases, ASilentWorkerIsLostOnceAndOthersAreNot) {
  Leases leases({}, kBoot);
  run(leases, 0, 20);
  leases.heard("a", at(20));
  leases.heard("b", at(20));
  leases.heard("b", at(24));
  EXPECT_THAT(run(leases, 20.5, 24.5), IsEmpty());
  EXPECT_THAT(run(leases, 25, 28), ElementsAre("a"));
  EXPECT_THAT(run(leases, 29, 40), ElementsAre("b"));
  EXPECT_THAT(run(leases, 40.5, 60), IsEmpty());
}

TEST(Leases, ALostSessionHasThreeSecondsToComeBack) {
  Leases leases({}, kBoot);
  run(leases, 0, 20);
  leases.heard("a", at(20));
  leases.disconnected("a", at(20));
  EXPECT_THAT(run(leases, 20.5, 22.5), IsEmpty());
  leases.heard("a", at(22.5));  // it is back
  EXPECT_THAT(run(leases, 23, 27), IsEmpty());
  leases.disconnected("a", at(27));
  EXPECT_THAT(run(leases, 27.5, 30), ElementsAre("a"));
}

TEST(Leases, NothingExpiresForFifteenSecondsAfterAStart) {
  Leases leases({}, kBoot);
  leases.expect("a", kBoot);
  leases.heard("b", at(1));
  leases.disconnected("b", at(2));
  EXPECT_THAT(run(leases, 0, 14.5), IsEmpty());
  EXPECT_THAT(run(leases, 15, 15), ElementsAre("a", "b"));
}

TEST(Leases, OurOwnFreezeCostsNobodyItsLease) {
  Leases leases({}, kBoot);
  run(leases, 0, 20);
  leases.heard("a", at(20));
  leases.expire(at(20.5));
  EXPECT_THAT(leases.expire(at(80)), IsEmpty());  // we were stopped for a minute
  EXPECT_THAT(run(leases, 80.5, 84), IsEmpty());
  EXPECT_THAT(run(leases, 84.5, 86), ElementsAre("a"));
}

}  // namespace
}  // namespace qwen3::coordinator
