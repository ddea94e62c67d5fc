// Which steps each trace has when several are wanted.
#include "worker/rank/profiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/temporary_folder.h"

namespace qwen3::testing {
namespace {

using parallel::Timeline;
using ::testing::ElementsAre;

// A rank without a model.
struct Scene {
  explicit Scene(const spec::ProfilingSpec& spec = {})
      : profiler(spec, folder.path(), /*rank=*/0, timeline, /*units=*/{}) {}

  // Does the steps up to `last`. `orders`: by the step that they come with.
  void run(int64_t last, std::map<int64_t, rank::TraceOrder> orders) {
    for (int64_t step = 1; step <= last; ++step) {
      profiler.before_step(step);
      timeline.begin_step(step);
      timeline.end_step();
      profiler.after_step(step, orders[step]);
    }
    profiler.finish();
  }

  std::vector<std::string> steps_in(const std::string& trace) const {
    std::ifstream file(folder.path() + "/" + trace + "/rank0_trace.json");
    EXPECT_TRUE(file) << trace;
    std::vector<std::string> steps;
    const nlohmann::json content = nlohmann::json::parse(file, /*cb=*/nullptr, /*allow_exceptions=*/false);
    if (!content.is_object()) return steps;
    for (const auto& event : content.at("traceEvents")) {
      if (event.value("cat", "") == "step") steps.push_back(event.at("name").get<std::string>());
    }
    return steps;
  }

  const tests::TemporaryFolder folder{"profiler"};
  Timeline timeline;
  rank::Profiler profiler;
};

TEST(Profiler, ATraceThatIsOrderedWhileAnotherIsRecordedHasTheStepsAfterIt) {
  Scene scene;
  scene.run(/*last=*/7,
            {{1, {.steps = 3, .trace = 0x1a}}, {2, {.steps = 1, .trace = 0x1b}}, {3, {.steps = 2, .trace = 0x1c}}});
  EXPECT_THAT(scene.steps_in("traces/000000000000001a"), ElementsAre("step 2", "step 3", "step 4"));
  EXPECT_THAT(scene.steps_in("traces/000000000000001b"), ElementsAre("step 5"));
  EXPECT_THAT(scene.steps_in("traces/000000000000001c"), ElementsAre("step 6", "step 7"));
}

TEST(Profiler, AnOrderWaitsForTheRegularTraceAndGoesBeforeTheNext) {
  Scene scene(spec::ProfilingSpec{.enable = true, .freq = 3, .active = 3});
  scene.run(/*last=*/6, {{1, {.steps = 1, .trace = 1}}});
  EXPECT_THAT(scene.steps_in("profile_traces/iteration_3"), ElementsAre("step 1", "step 2", "step 3"));
  EXPECT_THAT(scene.steps_in("traces/0000000000000001"), ElementsAre("step 4"));
  EXPECT_THAT(scene.steps_in("profile_traces/iteration_6"), ElementsAre("step 5", "step 6"));
}

TEST(Profiler, TheEndOfTheRunWritesTheStepsThatThereAre) {
  Scene scene;
  scene.run(/*last=*/3, {{1, {.steps = 100, .trace = 1}}});
  EXPECT_THAT(scene.steps_in("traces/0000000000000001"), ElementsAre("step 2", "step 3"));
}

}  // namespace
}  // namespace qwen3::testing
