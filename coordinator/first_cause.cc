#include "coordinator/first_cause.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace qwen3::coordinator {
namespace {

using internal::v1::RankExit;

// Smaller is blamed first.
enum class Kind { kOomKilled, kWorkerLost, kSignal, kOwnWord, kSilentExit, kVictim, kAborted, kFinished };

Kind kind_of(const Evidence& evidence) {
  const RankExit& exit = evidence.exit;
  if (evidence.worker_lost) return Kind::kWorkerLost;
  if (exit.finished()) return Kind::kFinished;
  if (exit.oom_killed()) return Kind::kOomKilled;
  if (exit.aborted()) return Kind::kAborted;
  if (exit.peer_lost()) return Kind::kVictim;
  if (exit.signal() != 0) return Kind::kSignal;
  return exit.has_failure() ? Kind::kOwnWord : Kind::kSilentExit;
}

v1::Failure describe(const Evidence& evidence, Kind kind, int64_t step) {
  const RankExit& exit = evidence.exit;
  const std::string who = absl::StrCat("rank ", exit.rank(), " on ", evidence.worker);
  const std::string when = step > 0 ? absl::StrCat(" after step ", step) : std::string(" before the first step");
  v1::Failure failure;
  failure.set_class_(v1::FAILURE_CLASS_INFRA);
  failure.set_rank(exit.rank());
  failure.set_worker(evidence.worker);
  failure.set_step(step);
  switch (kind) {
    case Kind::kOomKilled:
      failure.set_reason("OOM_KILLED");
      failure.set_message(absl::StrCat(who, " was killed by the kernel for lack of memory", when));
      break;
    case Kind::kWorkerLost:
      failure.set_reason("WORKER_LOST");
      failure.set_rank(-1);
      failure.set_message(absl::StrCat(evidence.worker, " was lost", when, ": ", evidence.message));
      break;
    case Kind::kSignal:
      failure.set_reason("RANK_KILLED");
      failure.set_message(
          absl::StrCat(who, " was killed by signal ", exit.signal(), " (", strsignal(exit.signal()), ")", when));
      break;
    case Kind::kOwnWord: {
      const int32_t rank = exit.rank();
      failure = exit.failure();
      failure.set_rank(rank);
      failure.set_worker(evidence.worker);
      if (failure.step() == 0) failure.set_step(step);
      if (failure.class_() == v1::FAILURE_CLASS_UNSPECIFIED) failure.set_class_(v1::FAILURE_CLASS_INTERNAL);
      if (failure.reason().empty()) failure.set_reason("RANK_FAILED");
      break;
    }
    case Kind::kSilentExit:
      failure.set_reason("RANK_EXITED");
      failure.set_message(absl::StrCat(who, " exited with status ", exit.exit_code(), " and said nothing", when));
      break;
    case Kind::kVictim:
      failure.set_reason("PEER_LOST");
      failure.set_message(absl::StrCat(who, " lost a peer", when, ", and no rank is known to have failed"));
      break;
    case Kind::kAborted:
    case Kind::kFinished:
      failure.set_reason("ABORTED");
      failure.set_message(absl::StrCat(who, " was stopped", when));
      break;
  }
  return failure;
}

}  // namespace

bool is_cause(const Evidence& evidence) { return kind_of(evidence) < Kind::kVictim; }

v1::Failure first_cause(const std::vector<Evidence>& evidence, int64_t step) {
  const Evidence* first = &evidence.front();
  Kind kind = kind_of(*first);
  for (const Evidence& other : evidence) {
    if (const Kind other_kind = kind_of(other); other_kind < kind) {
      first = &other;
      kind = other_kind;
    }
  }
  return describe(*first, kind, step);
}

}  // namespace qwen3::coordinator
