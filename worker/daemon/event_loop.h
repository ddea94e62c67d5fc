// One thread that owns a daemon's state: tasks come from any thread and run on the thread that called run(), one after
// the other, in the order they were posted. Timers are tasks with a time, on the monotonic clock.
#pragma once
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>

namespace qwen3::worker {

class EventLoop {
 public:
  using Task = std::function<void()>;
  using Clock = std::chrono::steady_clock;

  // Runs tasks until stop(); what is then still queued is never run.
  void run();
  // These three: any thread.
  void post(Task task);
  void after(Clock::duration delay, Task task);
  void stop();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;                         // under mutex_
  std::multimap<Clock::time_point, Task> timers_;  // under mutex_
  bool stopped_ = false;                           // under mutex_
};

}  // namespace qwen3::worker
