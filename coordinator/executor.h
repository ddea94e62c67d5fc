// Threads that run posted tasks in order of posting. With one thread it is the coordinator's state thread; with more, a
// pool for reads from disk, so that no gRPC callback ever blocks.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace qwen3::coordinator {

class Executor {
 public:
  explicit Executor(int threads);
  ~Executor();  // runs what is posted, then joins
  // Any thread. Dropped after stop().
  void post(std::function<void()> task);
  // Runs what is posted and joins; later posts are dropped.
  void stop();

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

// Calls `task` every `period_ms` on a thread of its own until destroyed.
class Ticker {
 public:
  Ticker(int period_ms, std::function<void()> task);
  ~Ticker();

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace qwen3::coordinator
