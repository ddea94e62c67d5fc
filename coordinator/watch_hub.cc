#include "coordinator/watch_hub.h"

namespace qwen3::coordinator {

void WatchHub::add(const std::string& job, const std::shared_ptr<Watcher>& watcher) {
  bool draining = false;
  {
    const std::lock_guard lock(mutex_);
    watchers_[job][watcher.get()] = watcher;
    draining = draining_;
  }
  if (draining) watcher->drain();
}

void WatchHub::remove(const std::string& job, const Watcher* watcher) {
  const std::lock_guard lock(mutex_);
  const auto known = watchers_.find(job);
  if (known == watchers_.end()) return;
  known->second.erase(watcher);
  if (known->second.empty()) watchers_.erase(known);
}

void WatchHub::wake(const std::string& job) {
  std::vector<std::shared_ptr<Watcher>> woken;
  {
    const std::lock_guard lock(mutex_);
    const auto known = watchers_.find(job);
    if (known == watchers_.end()) return;
    for (const auto& [key, watcher] : known->second) {
      if (auto alive = watcher.lock()) woken.push_back(std::move(alive));
    }
  }
  for (const auto& watcher : woken) watcher->wake();
}

void WatchHub::beat_all() {
  for (const auto& watcher : all()) watcher->beat();
}

void WatchHub::drain_all() {
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;
  }
  for (const auto& watcher : all()) watcher->drain();
}

size_t WatchHub::size() { return all().size(); }

std::vector<std::shared_ptr<Watcher>> WatchHub::all() {
  std::vector<std::shared_ptr<Watcher>> alive;
  const std::lock_guard lock(mutex_);
  for (const auto& [job, watchers] : watchers_) {
    for (const auto& [key, watcher] : watchers) {
      if (auto one = watcher.lock()) alive.push_back(std::move(one));
    }
  }
  return alive;
}

}  // namespace qwen3::coordinator
