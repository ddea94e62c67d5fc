#include "kernels/cpu/recycling_allocator.h"

#include <c10/core/Allocator.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <new>
#include <vector>

namespace qwen3::kernels {
namespace {

constexpr size_t kAlignment = 64;  // of data: a cache line, and what vector code wants
constexpr size_t kPage = 4096;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kSmall = size_t{64} << 10;  // smaller buffers are left to malloc

// Lies in front of the data.
struct alignas(kAlignment) Buffer {
  size_t capacity;   // bytes after the header
  size_t requested;  // by the tensor that has it now
  void* data() { return this + 1; }
  static Buffer* of(void* data) { return static_cast<Buffer*>(data) - 1; }
};
static_assert(sizeof(Buffer) == kAlignment);

Buffer* allocate_fresh(size_t capacity) {
  const bool huge = capacity >= 2 * kHugePage;
  const size_t bytes = sizeof(Buffer) + capacity;
  void* memory = nullptr;
  const int error = posix_memalign(&memory, huge ? kHugePage : kAlignment, bytes);
  TORCH_CHECK_WITH(OutOfMemoryError, error == 0, "CPU allocator: no memory for a tensor of ", capacity, " bytes");
  if (huge) madvise(memory, bytes / kPage * kPage, MADV_HUGEPAGE);  // advice: fewer page faults where it is taken
  return new (memory) Buffer{.capacity = capacity, .requested = 0};
}

class RecyclingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) return {nullptr, nullptr, &release, cpu};
    Buffer* buffer = bytes < kSmall ? allocate_fresh(bytes) : take(bytes);
    buffer->requested = bytes;
    count(static_cast<int64_t>(bytes));
    return {buffer->data(), buffer->data(), &release, cpu};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }

  static RecyclingAllocator& instance() {
    static auto* allocator = new RecyclingAllocator;  // never destroyed: tensors may outlive static objects
    return *allocator;
  }

  std::atomic<int64_t> live = 0, peak = 0;
  int64_t kept() {
    std::lock_guard lock(mutex_);
    return static_cast<int64_t>(kept_);
  }

 private:
  static void release(void* data) {
    if (data == nullptr) return;
    Buffer* buffer = Buffer::of(data);
    instance().live -= static_cast<int64_t>(buffer->requested);
    if (buffer->capacity < kSmall) return std::free(buffer);
    instance().keep(buffer);
  }

  void count(int64_t bytes) {
    const int64_t now = live += bytes;
    for (int64_t old = peak; now > old && !peak.compare_exchange_weak(old, now);) {
    }
  }

  // A kept buffer of this size, or at most an eighth larger; else a fresh one.
  Buffer* take(size_t bytes) {
    const size_t capacity = (bytes + kPage - 1) / kPage * kPage;
    std::unique_lock lock(mutex_);
    const auto found = free_.lower_bound(capacity);
    if (found != free_.end() && found->first <= capacity + capacity / 8) {
      Buffer* buffer = found->second.back();  // freed last: the likeliest to be in the cache
      found->second.pop_back();
      if (found->second.empty()) free_.erase(found);
      kept_ -= buffer->capacity;
      add_in_use(buffer->capacity);
      return buffer;
    }
    add_in_use(capacity);
    const std::vector<Buffer*> dropped = drop_excess();
    lock.unlock();
    for (Buffer* buffer : dropped) std::free(buffer);
    return allocate_fresh(capacity);
  }

  void keep(Buffer* buffer) {
    std::unique_lock lock(mutex_);
    in_use_ -= buffer->capacity;
    kept_ += buffer->capacity;
    free_[buffer->capacity].push_back(buffer);
    const std::vector<Buffer*> dropped = drop_excess();
    lock.unlock();
    for (Buffer* excess : dropped) std::free(excess);
  }

  void add_in_use(size_t capacity) {
    in_use_ += capacity;
    most_in_use_ = std::max(most_in_use_, in_use_);
  }

  // Takes kept buffers, large ones first, out of the lists until the bound of the header holds.
  std::vector<Buffer*> drop_excess() {
    std::vector<Buffer*> dropped;
    while (kept_ > 0 && in_use_ + kept_ > most_in_use_ + most_in_use_ / 4) {
      const auto largest = std::prev(free_.end());
      Buffer* oldest = largest->second.front();
      largest->second.pop_front();
      if (largest->second.empty()) free_.erase(largest);
      kept_ -= oldest->capacity;
      dropped.push_back(oldest);
    }
    return dropped;
  }

  std::mutex mutex_;                                // guards what follows
  std::map<size_t, std::deque<Buffer*>> free_;      // by capacity, in order of release
  size_t in_use_ = 0, most_in_use_ = 0, kept_ = 0;  // bytes of capacity, large buffers only
};

}  // namespace

void install_recycling_allocator() {
  static const bool installed = [] {
    c10::SetAllocator(c10::DeviceType::CPU, &RecyclingAllocator::instance(), /*priority=*/100);
    return true;
  }();
  static_cast<void>(installed);
}

int64_t live_bytes() { return RecyclingAllocator::instance().live; }
int64_t peak_bytes() { return RecyclingAllocator::instance().peak; }
void reset_peak() { RecyclingAllocator::instance().peak = live_bytes(); }
int64_t kept_bytes() { return RecyclingAllocator::instance().kept(); }

}  // namespace qwen3::kernels
