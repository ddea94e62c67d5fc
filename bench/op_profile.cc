#include "bench/op_profile.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <chrono>
#include <iomanip>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace qwen3::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Total {
  double seconds = 0;
  int64_t calls = 0;
};

std::mutex mutex;
std::map<std::string, Total> totals;  // guarded by mutex
at::CallbackHandle handle;

struct Running : at::ObserverContext {
  Clock::time_point start = Clock::now();
  double inside = 0;  // seconds in operations that this one called
  Running* caller = nullptr;
};
thread_local Running* innermost = nullptr;

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction&) {
  auto running = std::make_unique<Running>();
  running->caller = innermost;
  innermost = running.get();
  return running;
}

void end(const at::RecordFunction& function, at::ObserverContext* context) {
  auto* running = static_cast<Running*>(context);
  const double seconds = std::chrono::duration<double>(Clock::now() - running->start).count();
  innermost = running->caller;
  if (innermost != nullptr) innermost->inside += seconds;
  const std::lock_guard lock(mutex);
  Total& total = totals[function.name()];
  total.seconds += seconds - running->inside;
  ++total.calls;
}

}  // namespace

void start_op_profile() {
  handle = at::addGlobalCallback(
      at::RecordFunctionCallback(begin, end).scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
}

void print_op_profile(std::ostream& out, int64_t steps) {
  at::removeCallback(handle);
  const std::lock_guard lock(mutex);
  std::vector<std::pair<std::string, Total>> sorted(totals.begin(), totals.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  double all = 0;
  for (const auto& [name, total] : sorted) all += total.seconds;
  out << "self s/step   share  calls/step  operation\n" << std::fixed;
  for (const auto& [name, total] : sorted) {
    out << std::setw(11) << std::setprecision(4) << total.seconds / static_cast<double>(steps) << std::setw(7)
        << std::setprecision(1) << 100 * total.seconds / all << '%' << std::setw(12) << total.calls / steps << "  "
        << name << '\n';
  }
}

}  // namespace qwen3::bench
