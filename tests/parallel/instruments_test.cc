// What a rank notes about itself: its last collectives, and where its time goes.
#include "parallel/instruments.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "parallel/collectives.h"
#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"
#include "tests/temporary_folder.h"
#include "worker/rank/profiler.h"
#include "worker/rank/trainer.h"

namespace qwen3::testing {
namespace {

using parallel::FlightRecorder;
using parallel::Timeline;
using ::testing::AllOf;
using ::testing::HasSubstr;

// How long a slow rank does nothing. On a busy machine all takes longer: waits are compared with what that rank took.
constexpr auto kSlow = std::chrono::milliseconds(200);

double in_seconds(Timeline::Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// The number that the rank `from` of the world gives, on all of them.
double from_rank(int64_t from, double number, const parallel::DeviceMesh& mesh) {
  return parallel::all_gather(at::full({1}, number, at::kDouble), mesh.world())[from].item<double>();
}

TEST(FlightRecorder, KeepsTheNewestAndNamesTheOldestUnfinished) {
  FlightRecorder recorder;
  const size_t tp = recorder.add_axis("tp"), shard = recorder.add_axis("dp_shard");
  const auto first = recorder.start(tp, "all_gather", at::kFloat, 64);
  const auto second = recorder.start(shard, "all_to_all", at::kBFloat16, 128);
  const auto third = recorder.start(tp, "all_gather", at::kFloat, 64);
  EXPECT_EQ(third.sequence, 2);  // counted by axis
  recorder.done(first);
  recorder.done(third);
  ASSERT_TRUE(recorder.oldest_unfinished());
  EXPECT_EQ(recorder.oldest_unfinished()->operation, "all_to_all");
  EXPECT_THAT(report(recorder),
              AllOf(HasSubstr("#1 all_gather over tp, Float, 64 bytes"),
                    HasSubstr("#1 all_to_all over dp_shard, BFloat16, 128 bytes"), HasSubstr("unfinished")));
  recorder.done(second);
  EXPECT_FALSE(recorder.oldest_unfinished());

  for (size_t i = 0; i < FlightRecorder::kCapacity + 5; ++i) recorder.done(recorder.start(tp, "x", at::kLong, 8));
  recorder.done(first);  // overwritten long ago: without effect
  EXPECT_EQ(recorder.flights().size(), FlightRecorder::kCapacity);
  EXPECT_EQ(recorder.flights().back().sequence, 2 + static_cast<int64_t>(FlightRecorder::kCapacity) + 5);
}

TEST(Collectives, AreNotedAlikeOnEveryRankOfAnAxis) {
  run_ranks(data_parallel_mesh(/*replicate=*/2, /*shard=*/2), [](const parallel::DeviceMesh& mesh) {
    parallel::all_gather(at::ones({3}), mesh.axis(spec::Axis::kDpShard));
    parallel::all_gather(at::ones({2}, at::kDouble), mesh.axis(spec::Axis::kDpReplicate));
    parallel::all_reduce_sum(std::vector<int64_t>{1, 2}, mesh.world());
    parallel::all_gather(at::ones({5}), mesh.axis(spec::Axis::kDpShard));
    std::vector<std::string> noted;
    for (const auto& flight : mesh.instruments().flights.flights()) {
      EXPECT_TRUE(flight.done && flight.finished);
      noted.push_back(std::string(flight.axis) + " " + std::to_string(flight.sequence) + " " +
                      std::to_string(flight.bytes));
    }
    EXPECT_EQ(noted, (std::vector<std::string>{"dp_shard 1 12", "dp_replicate 1 16", "world 1 16", "dp_shard 2 20"}));
  });
}

TEST(Collectives, IntoABroadcastTheRootPutsBytesAndIntoAGatherTheOthers) {
  run_ranks(data_parallel_mesh(1, 2), [](const parallel::DeviceMesh& mesh) {
    const parallel::MeshAxis& shard = mesh.axis(spec::Axis::kDpShard);
    const at::Tensor x = at::ones({4}), all = at::empty({2, 4});
    start_broadcast(x, /*root=*/1, shard).wait();
    start_gather(all, x, /*root=*/1, shard).wait();
    const auto flights = mesh.instruments().flights.flights();
    ASSERT_EQ(flights.size(), 2u);
    EXPECT_EQ(flights[0].bytes, mesh.rank() == 1 ? 16 : 0);
    EXPECT_EQ(flights[1].bytes, mesh.rank() == 1 ? 0 : 16);
  });
}

// Rank 1 leaves; what rank 0 started before and is complete, though nobody waited for it, is not to blame.
TEST(Collectives, TheErrorOfALostPeerNamesTheOldestUnfinishedOne) {
  run_ranks(data_parallel_mesh(1, 2), [](const parallel::DeviceMesh& mesh) {
    const parallel::MeshAxis& shard = mesh.axis(spec::Axis::kDpShard);
    const at::Tensor all = at::empty({2, 3}), mine = at::ones({3});
    parallel::Pending ahead = start_all_gather(all, mine, shard);
    if (mesh.rank() == 1) return ahead.wait();
    const FlightRecorder& flights = mesh.instruments().flights;
    const auto end = FlightRecorder::Clock::now() + std::chrono::seconds(60);
    while (!flights.flights().at(0).finished && FlightRecorder::Clock::now() < end) std::this_thread::yield();
    try {
      parallel::all_gather(at::ones({4}), shard);
      ADD_FAILURE() << "the peer is gone";
    } catch (const c10::DistError& e) {
      EXPECT_THAT(e.what_without_backtrace(),
                  HasSubstr("oldest unfinished collective: #2 all_gather over dp_shard, Float, 16 bytes"));
    }
    EXPECT_THAT(report(flights), HasSubstr("#1 all_gather over dp_shard, Float, 12 bytes"));
  });
}

TEST(Timeline, ASlowPeerIsAnExposedWaitOnItsAxisAlone) {
  spec::Mesh shape = data_parallel_mesh(1, 2);
  shape.degrees[static_cast<int>(spec::Axis::kTp)] = 2;
  std::atomic<int> ready = 0;  // its peer is about to wait for it, and the other pair is through
  run_ranks(shape, [&](const parallel::DeviceMesh& mesh) {
    Timeline& timeline = mesh.instruments().timeline;
    const auto wait = [&](spec::Axis axis) {
      return timeline.seconds(Timeline::kFirstAxis + mesh.axis(axis).number());
    };
    parallel::all_reduce_sum(std::vector<int64_t>{0}, mesh.world());  // all are here
    timeline.begin_step(1);
    parallel::all_gather(at::ones({1}), mesh.axis(spec::Axis::kDpShard));
    const double shard_before = wait(spec::Axis::kDpShard);
    parallel::all_reduce_sum(std::vector<int64_t>{0}, mesh.world());
    if (mesh.rank() == 0) ++ready;
    if (mesh.rank() == 1) {  // a slow rank, whose only tp peer is rank 0
      const auto end = Timeline::Clock::now() + std::chrono::seconds(30);
      while (ready < 3 && Timeline::Clock::now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      EXPECT_EQ(ready.load(), 3) << "ranks 2 and 3 wait for rank 1";
      std::this_thread::sleep_for(kSlow);
    }
    parallel::all_gather(at::ones({1}), mesh.axis(spec::Axis::kTp));
    if (mesh.rank() > 1) ++ready;
    timeline.end_step();
    EXPECT_EQ(wait(spec::Axis::kDpShard), shard_before);  // nothing of it is charged there
    const double slow = from_rank(1, timeline.seconds(Timeline::kOther), mesh);
    EXPECT_GE(slow, in_seconds(kSlow));  // its own doing
    if (mesh.rank() == 0) {
      EXPECT_GT(wait(spec::Axis::kTp), in_seconds(kSlow) / 2);  // it was about to wait when rank 1 went to sleep
    }
    if (mesh.rank() > 1) {
      EXPECT_LT(wait(spec::Axis::kTp), slow);
    }
  });
}

double sum(const rank::StepSplit& split) {
  double seconds = split.compute + split.optimizer + split.data + split.other;
  for (const auto& [axis, wait] : split.waits) seconds += wait;
  return seconds;
}

// Text that takes long to come, on one rank.
class SlowText : public SyntheticText {
 public:
  using SyntheticText::SyntheticText;
  data::Sample at(int64_t index) const override {
    std::this_thread::sleep_for(kSlow / 8);  // a step of two ranks takes eight sequences on each
    return SyntheticText::at(index);
  }
};

TEST(StepSplit, AddsUpToTheStepsSecondsAndShowsWhoWasSlow) {
  const spec::RunSpec run = tiny_run(data_parallel_mesh(1, 2), /*tied=*/false);
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& mesh) {
    std::shared_ptr<data::Dataset> text = text_of(run);
    if (mesh.rank() == 1) text = std::make_shared<SlowText>(50, run.data.seq_len, run.model.vocab);
    rank::Trainer trainer(run, mesh, {text, nullptr});
    trainer.step(1, {});
    const rank::StepMetrics step = trainer.step(2, {}).metrics;
    EXPECT_NEAR(sum(step.split), step.seconds, 1e-9);  // whole nanoseconds, converted
    EXPECT_GT(step.split.compute, 0);
    EXPECT_GT(step.split.optimizer, 0);
    EXPECT_GT(step.split.waits.at("dp_shard"), 0);
    const double slow = from_rank(1, step.split.data, mesh);
    if (mesh.rank() == 1) {
      EXPECT_GT(slow, 0.8 * in_seconds(kSlow));  // eight sequences; clocks of a virtual machine may slip
    } else {
      EXPECT_LT(step.split.data, slow);
      // All agree on the step first. What the ranks began it apart by is little beside the rest.
      EXPECT_GT(step.split.data + step.split.waits.at("world"), slow / 2);
    }
    EXPECT_GT(step.mean_split.data, step.split.data / 2);
  });
}

using Json = nlohmann::json;

// Each event of the training track lies within another or beside it.
void expect_nested(const std::vector<Json>& events) {
  std::vector<std::pair<double, double>> spans;
  for (const Json& event : events) {
    if (event.at("ph") != "X") continue;
    spans.emplace_back(event.at("ts").get<double>(), event.at("ts").get<double>() + event.at("dur").get<double>());
  }
  std::sort(spans.begin(), spans.end(),
            [](const auto& a, const auto& b) { return a.first != b.first ? a.first < b.first : a.second > b.second; });
  constexpr double kRounding = 1;  // microseconds: doubles since 1970 have 0.25
  std::vector<double> open;        // ends
  for (const auto& [begin, end] : spans) {
    while (!open.empty() && open.back() <= begin + kRounding) open.pop_back();
    if (!open.empty()) {
      EXPECT_LE(end, open.back() + kRounding);
    }
    open.push_back(end);
  }
}

TEST(Trace, HasEveryPartOfAStepNestedAndChangesNoBit) {
  const tests::TemporaryFolder folder("trace");
  const spec::RunSpec run = tiny_run(data_parallel_mesh(1, 2), /*tied=*/true);
  const Outcome plain = train(run, /*steps=*/3);
  std::mutex mutex;
  std::vector<double> losses;
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& mesh) {
    rank::Trainer trainer(run, mesh, {text_of(run), nullptr});
    rank::Profiler profiler({.enable = true, .freq = 3, .active = 2}, folder.path(), mesh.rank(),
                            mesh.instruments().timeline, trainer.unit_names());
    for (int64_t step = 1; step <= 3; ++step) {
      profiler.before_step(step);
      const double loss = trainer.step(step, {}).metrics.loss;
      profiler.after_step(step);
      const std::lock_guard lock(mutex);
      if (mesh.rank() == 0) losses.push_back(loss);
    }
  });
  ASSERT_EQ(losses.size(), plain.losses.size());
  for (size_t i = 0; i < losses.size(); ++i) {
    EXPECT_EQ(losses[i], std::strtod(plain.losses[i].c_str(), nullptr));  // exact: hexadecimal
  }

  for (int rank = 0; rank < 2; ++rank) {
    std::ifstream file(folder.path() + "/profile_traces/iteration_3/rank" + std::to_string(rank) + "_trace.json");
    const Json trace = Json::parse(file);
    EXPECT_EQ(trace.at("otherData").at("dropped_spans"), 0);
    std::multiset<std::string> names;
    std::vector<Json> events;
    std::map<std::string, int> open;  // collectives
    for (const Json& event : trace.at("traceEvents")) {
      EXPECT_EQ(event.at("pid"), rank);
      names.insert(event.at("name"));
      events.push_back(event);
      if (event.at("ph") == "b") ++open[event.at("id")];
      if (event.at("ph") == "e") {
        EXPECT_EQ(--open[event.at("id")], 0);
      }
    }
    EXPECT_EQ(names.count("step 1"), 0u);
    const auto microbatches = static_cast<size_t>(run.microbatches_per_rank);
    for (const char* name : {"step 2", "step 3"}) EXPECT_EQ(names.count(name), 1u) << name;
    for (const char* name : {"data", "compute", "optimizer"}) EXPECT_EQ(names.count(name), 2u) << name;
    for (const char* unit : {"tok_embeddings", "layers.0", "layers.1", "layers.2", "head"}) {
      EXPECT_EQ(names.count(std::string("forward ") + unit), 2 * microbatches) << unit;
      EXPECT_EQ(names.count(std::string("backward ") + unit), 2 * microbatches) << unit;
    }
    EXPECT_GT(names.count("wait dp_shard"), 0u);
    EXPECT_GT(names.count("all_gather dp_shard"), 0u);
    EXPECT_GT(names.count("all_to_all dp_shard"), 0u);
    expect_nested(events);
  }
}

TEST(Trace, OneThatCannotBeWrittenEndsNoRun) {
  const tests::TemporaryFolder folder("trace");
  std::ofstream(folder.file("profile_traces")) << "a file where the traces' folder should be";
  Timeline timeline;
  rank::Profiler profiler({.enable = true, .freq = 1, .active = 1}, folder.path(), /*rank=*/0, timeline, /*units=*/{});
  for (int64_t step = 1; step <= 2; ++step) {
    profiler.before_step(step);
    EXPECT_NO_THROW(profiler.after_step(step));
  }
}

}  // namespace
}  // namespace qwen3::testing
