#include "worker/rank/error_boundary.h"

#include <c10/util/Exception.h>

#include <new>
#include <string>

#include "worker/rank/trainer.h"

namespace qwen3::rank {
namespace {

internal::v1::RankFailed failure(v1::FailureClass cls, const char* reason, const std::string& message) {
  internal::v1::RankFailed failed;
  failed.mutable_failure()->set_class_(cls);
  failed.mutable_failure()->set_reason(reason);
  failed.mutable_failure()->set_message(message);
  failed.mutable_failure()->set_rank(-1);  // the daemon knows which
  return failed;
}

}  // namespace

std::optional<internal::v1::RankFailed> run_guarded(const std::function<void()>& body) try {
  body();
  return std::nullopt;
} catch (const NonFiniteError& e) {
  auto failed = failure(v1::FAILURE_CLASS_USER, "NON_FINITE", e.what());
  failed.mutable_failure()->set_rank(static_cast<int32_t>(e.rank));
  failed.mutable_failure()->set_step(e.step);
  return failed;
} catch (const c10::DistError& e) {  // before c10::Error, its base
  auto failed = failure(v1::FAILURE_CLASS_INFRA, "PEER_LOST", e.what_without_backtrace());
  failed.set_peer_lost(true);
  return failed;
} catch (const c10::OutOfMemoryError& e) {
  return failure(v1::FAILURE_CLASS_USER, "OUT_OF_MEMORY", e.what_without_backtrace());
} catch (const std::bad_alloc&) {
  return failure(v1::FAILURE_CLASS_USER, "OUT_OF_MEMORY", "an allocation failed on the host");
} catch (const c10::Error& e) {
  return failure(v1::FAILURE_CLASS_INTERNAL, "ENGINE_ERROR", e.what_without_backtrace());
} catch (const std::exception& e) {
  return failure(v1::FAILURE_CLASS_USER, "RUN_ERROR", e.what());
}

}  // namespace qwen3::rank
