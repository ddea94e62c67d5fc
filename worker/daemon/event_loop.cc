#include "worker/daemon/event_loop.h"

#include <utility>

namespace qwen3::worker {

void EventLoop::run() {
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    const auto now = Clock::now();
    for (auto timer = timers_.begin(); timer != timers_.end() && timer->first <= now; timer = timers_.erase(timer)) {
      tasks_.push_back(std::move(timer->second));
    }
    if (!tasks_.empty()) {
      Task task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      task = nullptr;  // its captures may post; they must not do so under the lock
      lock.lock();
    } else if (timers_.empty()) {
      changed_.wait(lock);
    } else {
      const auto next = timers_.begin()->first;  // a copy: the node may be gone when the wait looks again
      changed_.wait_until(lock, next);
    }
  }
}

void EventLoop::post(Task task) {
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  changed_.notify_one();
}

void EventLoop::after(Clock::duration delay, Task task) {
  const std::lock_guard lock(mutex_);
  timers_.emplace(Clock::now() + delay, std::move(task));
  changed_.notify_one();
}

void EventLoop::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  changed_.notify_one();
}

}  // namespace qwen3::worker
