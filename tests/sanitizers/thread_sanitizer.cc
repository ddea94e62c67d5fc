// What ThreadSanitizer must be told about Debian's gRPC, Abseil and Protobuf, which are not built with it. Part of
// every program of the preset `tsan`, so that processes started with a bare environment know it too.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <cstdio>
#include <cstdlib>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace {

// The library's own function, behind the one defined here.
template <typename Function>
Function next(const char* symbol) {
  void* const found = dlsym(RTLD_NEXT, symbol);
  if (found == nullptr) {
    std::fprintf(stderr, "thread_sanitizer.cc: %s is not in any library; wanted: Abseil 20220623 of Debian 12\n",
                 symbol);
    std::abort();
  }
  return reinterpret_cast<Function>(found);
}

}  // namespace

// What is seen inside a library that is not instrumented says nothing: half of its synchronisation is invisible.
extern "C" const char* __tsan_default_options() { return "ignore_noninstrumented_modules=1"; }

// gRPC hands an operation from the thread that starts it to the one that ends it through atomics inside the library.
// So its headers' own state, compiled into our programs, looks shared; ours does not, since a reactor's state has a
// mutex of its own. Only reports go whose innermost function is gRPC's or of a function or atomic that gRPC keeps, and
// those inside the making of one operation, which serialises a message: a race in what a callback of ours does is still
// reported.
extern "C" const char* __tsan_default_suppressions() {
  return "race_top:^grpc::\n"
         "race_top:^std::function<void (bool)>\n"
         "race_top:^std::_Function_base\n"
         "race_top:^std::__atomic_base<\n"
         "race:grpc::internal::CallOp\n"
         "race:^grpc::internal::InterceptorBatchMethodsImpl::\n";
}

// Abseil's mutex is a futex of its own, so ThreadSanitizer does not see it. gRPC orders nearly everything by it.
namespace absl {
ABSL_NAMESPACE_BEGIN

void Mutex::Lock() {
  static const auto lock = next<void (*)(Mutex*)>("_ZN4absl7debian35Mutex4LockEv");
  lock(this);
  __tsan_acquire(this);
}

bool Mutex::TryLock() {
  static const auto try_lock = next<bool (*)(Mutex*)>("_ZN4absl7debian35Mutex7TryLockEv");
  const bool locked = try_lock(this);
  if (locked) __tsan_acquire(this);
  return locked;
}

void Mutex::Unlock() {
  static const auto unlock = next<void (*)(Mutex*)>("_ZN4absl7debian35Mutex6UnlockEv");
  __tsan_release(this);
  unlock(this);
}

// A wait unlocks and locks inside the library.
void CondVar::Wait(Mutex* mutex) {
  static const auto wait = next<void (*)(CondVar*, Mutex*)>("_ZN4absl7debian37CondVar4WaitEPNS0_5MutexE");
  __tsan_release(mutex);
  wait(this, mutex);
  __tsan_acquire(mutex);
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  static const auto wait =
      next<bool (*)(CondVar*, Mutex*, Time)>("_ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");
  __tsan_release(mutex);
  const bool timed_out = wait(this, mutex, deadline);
  __tsan_acquire(mutex);
  return timed_out;
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  static const auto wait = next<bool (*)(CondVar*, Mutex*, Duration)>(
      "_ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE");
  __tsan_release(mutex);
  const bool timed_out = wait(this, mutex, timeout);
  __tsan_acquire(mutex);
  return timed_out;
}

ABSL_NAMESPACE_END
}  // namespace absl
