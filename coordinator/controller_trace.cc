// Controller: traces. An order is kept with its attempt and told again to a daemon that comes back, so that none is
// lost with a session; a rank ignores one that it knows.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/controller.h"
#include "coordinator/names.h"

namespace qwen3::coordinator {

using internal::v1::CoordinatorMessage;
using internal::v1::StoredAttempt;
using internal::v1::StoredTrace;

namespace {

CoordinatorMessage order_of(const StoredAttempt& attempt, const StoredTrace& trace) {
  CoordinatorMessage message;
  *message.mutable_control()->mutable_key() = key_of(attempt);
  internal::v1::RankControl& control = *message.mutable_control()->mutable_control();
  control.set_word(internal::v1::RANK_WORD_TRACE);
  control.set_trace_steps(trace.steps());
  control.set_trace(trace.trace());
  return message;
}

v1::TraceJobResponse answer_to(const internal::v1::StoredJob& job, const StoredTrace& trace) {
  v1::TraceJobResponse answer;
  answer.set_folder(absl::StrCat(job.checkpoint_folder(), "/traces/", absl::Hex(trace.trace(), absl::kZeroPad16)));
  answer.set_ranks(static_cast<int32_t>(job.job().plan().world_size()));
  return answer;
}

// The time, so that no two traces share a folder, whatever earlier jobs of this name left there.
int64_t next_trace(const StoredAttempt& attempt, absl::Time now) {
  const int64_t time = absl::ToUnixMicros(now);
  return attempt.traces().empty() ? time : std::max(time, attempt.traces(attempt.traces_size() - 1).trace() + 1);
}

}  // namespace

void Controller::trace(const std::string& name, int64_t steps, const std::string& request_id, absl::Time now,
                       std::function<void(absl::StatusOr<v1::TraceJobResponse>)> done) {
  now_ = now;
  JobRun* job = find(name);
  const auto ended = ended_.find(name);
  if (job == nullptr && ended == ended_.end()) {
    done(absl::NotFoundError(absl::StrCat("there is no ", noun(name), " \"", name, "\"")));
    return;
  }
  if (job != nullptr && job->attempt && !request_id.empty()) {
    for (const StoredTrace& known : job->attempt->stored.traces()) {
      if (known.request_id() != request_id) continue;
      absl::StatusOr<v1::TraceJobResponse> answer = answer_to(job->stored, known);
      if (known.steps() != steps) {
        answer = with_reason(absl::AlreadyExistsError(
                                 absl::StrCat("request_id \"", request_id, "\" was used for a trace of ", known.steps(),
                                              " steps, now of ", steps, "; use a new request_id for something new")),
                             "REQUEST_ID_REUSED");
      }
      // The first call may still be on its way to the disk.
      effects_.write({}, [done = std::move(done), answer = std::move(answer)] { done(answer); });
      return;
    }
  }
  const v1::JobState state = job == nullptr ? ended->second : job->stored.job().state();
  if (state != v1::JOB_STATE_RUNNING || !job->attempt || job->attempt->aborted) {
    done(with_reason(absl::FailedPreconditionError(
                         absl::StrCat(name, " is ", v1::JobState_Name(state), "; only a running job can be traced")),
                     "JOB_NOT_RUNNING"));
    return;
  }
  StoredAttempt& attempt = job->attempt->stored;
  StoredTrace order;
  order.set_request_id(request_id);
  order.set_steps(steps);
  order.set_trace(next_trace(attempt, now));
  *attempt.add_traces() = order;
  save(*job, {}, now,
       [this, key = key_of(attempt), order, answer = answer_to(job->stored, order), done = std::move(done)] {
         const JobRun* job = living(key);
         // Only the daemon of rank 0 has a rank that listens.
         if (job != nullptr) send_to_all(*job->attempt, order_of(job->attempt->stored, order));
         done(answer);
       });
}

void Controller::tell_traces_again(const std::string& worker, const StoredAttempt& attempt) {
  std::vector<CoordinatorMessage> orders;
  for (const StoredTrace& known : attempt.traces()) orders.push_back(order_of(attempt, known));
  if (orders.empty()) return;
  // The newest may still be on its way to the disk.
  effects_.write({}, [this, worker, orders = std::move(orders)] {
    for (const CoordinatorMessage& order : orders) send_to(worker, order);
  });
}

}  // namespace qwen3::coordinator
