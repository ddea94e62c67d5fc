#include "coordinator/job_state.h"

#include <gtest/gtest.h>

#include <random>

namespace qwen3::coordinator {
namespace {

constexpr v1::JobState kStates[] = {v1::JOB_STATE_QUEUED,  v1::JOB_STATE_SCHEDULED,  v1::JOB_STATE_STARTING,
                                    v1::JOB_STATE_RUNNING, v1::JOB_STATE_RECOVERING, v1::JOB_STATE_PAUSING,
                                    v1::JOB_STATE_PAUSED,  v1::JOB_STATE_STOPPING,   v1::JOB_STATE_SUCCEEDED,
                                    v1::JOB_STATE_FAILED,  v1::JOB_STATE_CANCELLED};

TEST(JobState, TerminalStatesAreAbsorbing) {
  for (const v1::JobState from : kStates) {
    if (!is_terminal(from)) continue;
    for (const v1::JobState to : kStates) EXPECT_FALSE(may_follow(from, to)) << from << " -> " << to;
  }
}

TEST(JobState, NoStateFollowsItself) {
  for (const v1::JobState state : kStates) EXPECT_FALSE(may_follow(state, state)) << state;
}

TEST(JobState, EveryOtherStateCanStillEnd) {
  std::mt19937 random(1);
  for (const v1::JobState start : kStates) {
    v1::JobState state = start;
    for (int step = 0; step < 10'000 && !is_terminal(state); ++step) {
      const v1::JobState to = kStates[random() % std::size(kStates)];
      if (may_follow(state, to)) state = to;
    }
    EXPECT_TRUE(is_terminal(state)) << "a random walk from " << start << " never ended";
  }
}

TEST(JobState, OnlyStoppingLeadsFromAStartedJobToTheEnd) {
  for (const v1::JobState from : {v1::JOB_STATE_SCHEDULED, v1::JOB_STATE_STARTING, v1::JOB_STATE_RUNNING,
                                  v1::JOB_STATE_RECOVERING, v1::JOB_STATE_PAUSED}) {
    for (const v1::JobState to : {v1::JOB_STATE_SUCCEEDED, v1::JOB_STATE_FAILED, v1::JOB_STATE_CANCELLED}) {
      EXPECT_FALSE(may_follow(from, to)) << from << " -> " << to;
    }
    EXPECT_TRUE(may_follow(from, v1::JOB_STATE_STOPPING)) << from;
  }
}

}  // namespace
}  // namespace qwen3::coordinator
