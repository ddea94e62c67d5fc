#include "worker/rank/profiler.h"

#include <cstdio>
#include <stdexcept>
#include <utility>

#include "worker/rank/trace_file.h"

namespace qwen3::rank {
namespace {

// Of one trace: a step of the largest flavor has some ten thousand; 64 bytes each.
constexpr size_t kMostSpans = 1 << 18;

}  // namespace

Profiler::Profiler(const spec::ProfilingSpec& spec, std::string folder, int64_t rank, parallel::Timeline& timeline,
                   std::vector<std::string> units)
    : spec_(spec), folder_(std::move(folder)), rank_(rank), timeline_(timeline), units_(std::move(units)) {}

void Profiler::begin(Trace trace) {
  open_ = std::move(trace);
  timeline_.keep_spans(kMostSpans);
}

void Profiler::before_step(int64_t step) {
  if (!spec_.enable || open_) return;
  const int64_t last = (step + spec_.freq - 1) / spec_.freq * spec_.freq;  // of the trace that comes next
  if (last - step >= spec_.active) return;
  begin({folder_ + "/" + spec_.folder + "/iteration_" + std::to_string(last), step, last});
}

void Profiler::after_step(int64_t step, const TraceOrder& order) {
  if (order.steps > 0) ordered_.push_back(order);
  if (open_ && step >= open_->last) finish();
  if (open_ || ordered_.empty()) return;
  char name[32];
  std::snprintf(name, sizeof(name), "%016llx", static_cast<unsigned long long>(ordered_.front().trace));
  begin({folder_ + "/traces/" + name, step + 1, step + ordered_.front().steps});
  ordered_.pop_front();
}

void Profiler::finish() {
  if (!open_) return;
  const std::string path = open_->folder + "/rank" + std::to_string(rank_) + "_trace.json";
  std::string outcome = path;
  try {
    write_trace(path, rank_, timeline_, timeline_.take_spans(), units_);
  } catch (const std::runtime_error& e) {
    outcome = std::string("not written: ") + e.what();
  }
  std::printf("trace from step %lld on: %s\n", static_cast<long long>(open_->first), outcome.c_str());
  std::fflush(stdout);
  open_.reset();
}

}  // namespace qwen3::rank
