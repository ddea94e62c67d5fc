// Who watches which job, so that what is on disk wakes exactly those streams.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace qwen3::coordinator {

// One open stream. Calls may come from any thread and never block.
class Watcher {
 public:
  virtual ~Watcher() = default;
  virtual void wake() = 0;   // there may be something new
  virtual void beat() = 0;   // about once a second
  virtual void drain() = 0;  // the server stops: end with the resume token
};

class WatchHub {
 public:
  void add(const std::string& job,
           const std::shared_ptr<Watcher>& watcher);  // drained at once if drain_all() was called
  void remove(const std::string& job, const Watcher* watcher);
  void wake(const std::string& job);
  void beat_all();
  void drain_all();
  size_t size();

 private:
  std::vector<std::shared_ptr<Watcher>> all();
  std::mutex mutex_;
  bool draining_ = false;
  std::map<std::string, std::map<const Watcher*, std::weak_ptr<Watcher>>> watchers_;
};

}  // namespace qwen3::coordinator
