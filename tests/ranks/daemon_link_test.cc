// What a rank hears from its daemon.
#include "worker/rank/daemon_link.h"

#include <gtest/gtest.h>

#include "worker/channel/channel.h"

namespace qwen3::rank {
namespace {

using internal::v1::DaemonToRank;

DaemonToRank trace_order(int64_t steps, int64_t trace) {
  DaemonToRank message;
  internal::v1::RankControl& control = *message.mutable_control();
  control.set_word(internal::v1::RANK_WORD_TRACE);
  control.set_trace_steps(steps);
  control.set_trace(trace);
  return message;
}

TEST(DaemonLink, TracesThatAreOrderedWithinAStepAreTakenOneByOneAndARepeatedOneOnlyOnce) {
  const auto sockets = worker::make_socket_pair();
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  worker::Channel daemon(sockets->first);  // outlives the link, which ends the process when its daemon is gone
  DaemonToRank assignment;
  assignment.mutable_assignment()->set_world_size(1);
  ASSERT_TRUE(daemon.send(assignment).ok());
  DaemonLink link(sockets->second);

  for (const DaemonToRank& order : {trace_order(2, 7), trace_order(3, 8), trace_order(2, 7)}) {
    ASSERT_TRUE(daemon.send(order).ok());
  }
  DaemonToRank last;
  last.set_store_address("127.0.0.1:5");
  ASSERT_TRUE(daemon.send(last).ok());
  EXPECT_EQ(link.store_address(), "127.0.0.1:5");  // so it has heard all before it

  const TraceOrder first = link.take_trace(), second = link.take_trace();
  EXPECT_EQ(first.steps, 2);
  EXPECT_EQ(first.trace, 7);
  EXPECT_EQ(second.steps, 3);
  EXPECT_EQ(second.trace, 8);
  EXPECT_EQ(link.take_trace().steps, 0);
}

}  // namespace
}  // namespace qwen3::rank
