// Decides of which steps a trace is kept, and writes it: by [profiling] every so many steps, or when it is ordered. One
// trace is recorded at a time; none cuts another short, and those that are ordered go first. A trace that cannot be
// written is said to be lost and ends no run.
#pragma once
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "parallel/timeline.h"
#include "spec/run_spec.h"
#include "worker/rank/trainer.h"

namespace qwen3::rank {

class Profiler {
 public:
  // `folder`: the job's. `units`: the model's, for names. The timeline outlives the profiler.
  Profiler(const spec::ProfilingSpec& spec, std::string folder, int64_t rank, parallel::Timeline& timeline,
           std::vector<std::string> units);

  // Around each step. after_step takes the order that came with the step, and writes the trace whose last step it was:
  // FOLDER/traces/HEX/rankR_trace.json if ordered, FOLDER/SAVE_TRACES_FOLDER/iteration_STEP/rankR_trace.json if not.
  void before_step(int64_t step);
  void after_step(int64_t step, const TraceOrder& order = {});
  // No more steps come: writes the trace that is being recorded, as it is.
  void finish();

 private:
  struct Trace {
    std::string folder;
    int64_t first, last;  // steps
  };
  void begin(Trace trace);

  spec::ProfilingSpec spec_;
  std::string folder_;
  int64_t rank_;
  parallel::Timeline& timeline_;
  std::vector<std::string> units_;
  std::optional<Trace> open_;       // being recorded
  std::deque<TraceOrder> ordered_;  // to be recorded, oldest first
};

}  // namespace qwen3::rank
