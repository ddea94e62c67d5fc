#include "worker/rank/error_boundary.h"

#include <c10/util/Exception.h>

#include <new>
#include <string>
#include <system_error>

#include "worker/rank/status_error.h"
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

// Whether the machine, its disk or its network failed. To absl EIO is UNKNOWN, a stale NFS handle ABORTED.
bool is_infrastructure(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kUnknown:
      return true;
    default:
      return false;
  }
}

// The same of an errno; a name that leads nowhere, or where this user may not go, is the user's to mend.
bool is_infrastructure(const std::error_code& code) {
  for (const std::errc of_user :
       {std::errc::no_such_file_or_directory, std::errc::not_a_directory, std::errc::is_a_directory,
        std::errc::permission_denied, std::errc::operation_not_permitted, std::errc::filename_too_long,
        std::errc::too_many_symbolic_link_levels, std::errc::invalid_argument}) {
    if (code == of_user) return false;
  }
  return true;
}

internal::v1::RankFailed run_error(bool infrastructure, const std::string& message) {
  return infrastructure ? failure(v1::FAILURE_CLASS_INFRA, "IO_ERROR", message)
                        : failure(v1::FAILURE_CLASS_USER, "RUN_ERROR", message);
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
} catch (const UnreadableCheckpoint& e) {  // before StatusError, its base
  return failure(v1::FAILURE_CLASS_INFRA, "CHECKPOINT_UNREADABLE", e.what());
} catch (const StatusError& e) {
  return run_error(is_infrastructure(e.code()), e.what());
} catch (const std::system_error& e) {  // also of std::filesystem
  return run_error(is_infrastructure(e.code()), e.what());
} catch (const std::exception& e) {
  return run_error(/*infrastructure=*/false, e.what());
}

}  // namespace qwen3::rank
