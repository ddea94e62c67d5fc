#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands/commands.h"
#include "client/format/json.h"
#include "client/format/spec.h"
#include "client/format/split.h"
#include "client/format/table.h"
#include "client/format/text.h"

namespace qwen3::client {
namespace {

void print_attempts(std::ostream& out, const std::vector<v1::Attempt>& attempts) {
  Table table({"  ATTEMPT", "EPOCH", "STARTED", "ENDED", "FROM STEP", "LAST STEP", "RANKS", "FAILURE"});
  for (const v1::Attempt& attempt : attempts) {
    table.add({absl::StrCat("  ", attempt.number()), absl::StrCat(attempt.epoch()), time_text(attempt.start_time()),
               time_text(attempt.end_time()), absl::StrCat(attempt.restored_step()), absl::StrCat(attempt.last_step()),
               absl::StrCat(attempt.placement_size()), attempt.has_failure() ? failure_text(attempt.failure()) : "-"});
  }
  table.print(out);
}

void print_job(std::ostream& out, const v1::Job& job) {
  out << "job: " << job.name() << '\n' << "state: " << state_word(job.state());
  if (!job.pending_reason().empty()) out << " (" << job.pending_reason() << ')';
  out << '\n';
  if (!job.status_message().empty()) out << "status: " << job.status_message() << '\n';
  if (job.has_failure()) out << "failure: " << failure_text(job.failure()) << '\n';
  out << "created: " << time_text(job.create_time()) << '\n'
      << "started: " << time_text(job.start_time()) << '\n'
      << "ended: " << time_text(job.end_time()) << '\n'
      << "epoch: " << job.epoch() << '\n';
  if (job.has_progress()) {
    const v1::Progress& progress = job.progress();
    out << "progress: "
        << absl::StrFormat("step %d/%d, loss %.4f, %.0f tokens/s", progress.step(), progress.total_steps(),
                           progress.loss(), progress.tokens_per_second());
    if (progress.eta_seconds() > 0) out << ", ETA " << duration_text(absl::Seconds(progress.eta_seconds()));
    out << '\n';
    if (progress.has_split()) out << "last step on rank 0: " << split_text(progress.split()) << '\n';
    if (progress.has_mean_split()) out << "mean of the attempt: " << split_text(progress.mean_split()) << '\n';
  }
  if (!job.latest_checkpoint().empty()) out << "latest checkpoint: " << job.latest_checkpoint() << '\n';
  if (!job.hf_export().empty()) out << "HF export: " << job.hf_export() << '\n';
  for (const std::string& warning : job.warnings()) out << "warning: " << warning << '\n';
}

}  // namespace

Result describe(Context& context, const std::string& name) {
  const auto job = context.client().get_job(job_name(name));
  if (!job.ok()) return job.status();
  if (context.json()) {
    context.out() << to_json(*job) << '\n';
    return 0;
  }
  const auto attempts = context.client().list_attempts(job->name());
  if (!attempts.ok()) return attempts.status();
  std::ostream& out = context.out();
  print_job(out, *job);
  if (!attempts->empty()) {
    out << "attempts:\n";
    print_attempts(out, *attempts);
  }
  if (job->has_plan()) {
    out << "plan:\n";
    print_plan(out, job->plan(), "  ");
  }
  out << "spec:\n";
  print_spec(out, job->spec(), "  ");
  return 0;
}

}  // namespace qwen3::client
