#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/commands/commands.h"
#include "client/exit_code.h"
#include "client/format/json.h"
#include "client/format/text.h"
#include "client/interrupt.h"
#include "client/watch.h"

namespace qwen3::client {

Result wait(Context& context, const std::string& id, absl::Duration timeout) {
  Interrupt interrupt;
  const std::string name = job_name(id);
  const absl::Status end =
      watch_events(context.client(), name, {.stop = interrupt.token(), .until = absl::Now() + timeout},
                   [](const v1::Event&, const std::string&) {});
  if (end.code() == absl::StatusCode::kDeadlineExceeded && timeout != absl::InfiniteDuration()) {
    context.err() << "job " << last_part(name) << " is not finished after " << duration_text(timeout) << '\n';
    return kTimeout;
  }
  if (!end.ok()) return end_of_watch(context, end, absl::StrCat("qwen3ctl wait ", id));
  const auto job = context.client().get_job(name);
  if (!job.ok()) return job.status();
  if (context.json()) {
    context.out() << to_json(*job) << '\n';
  } else {
    context.out() << "job " << last_part(name) << ' ' << state_word(job->state()) << '\n';
    if (job->state() == v1::JOB_STATE_FAILED) context.err() << failure_text(job->failure()) << '\n';
  }
  return exit_code(*job);
}

}  // namespace qwen3::client
