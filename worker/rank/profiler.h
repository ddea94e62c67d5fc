// Decides of which steps a trace is kept, and writes it: by [profiling] every so many steps, or when it is ordered. A
// trace that cannot be written is said to be lost and ends no run.
#pragma once
#include <cstdint>
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

  // Around each step. after_step writes FOLDER/SAVE_TRACES_FOLDER/iteration_STEP/rankR_trace.json after the last step
  // of a trace.
  void before_step(int64_t step);
  void after_step(int64_t step);
  // Records the steps after `step` into FOLDER/traces/HEX/rankR_trace.json. A trace that is being recorded is written
  // as it is.
  void order(int64_t step, const TraceOrder& order);
  // No more steps come: writes what there is.
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
  std::optional<Trace> open_;  // being recorded
};

}  // namespace qwen3::rank
