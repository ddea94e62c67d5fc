#include <future>
#include <ostream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands/commands.h"
#include "client/exit_code.h"
#include "client/format/json.h"
#include "client/format/text.h"
#include "client/interrupt.h"
#include "client/progress.h"
#include "client/watch.h"

namespace qwen3::client {
namespace {

// After the last event the server ends the stream of metrics too; it gets this long to send the rest.
constexpr std::chrono::seconds kMetricsTail{10};

std::string event_line(const v1::Event& event) {
  return absl::StrCat(absl::FormatTime("%H:%M:%S ", absl::FromUnixSeconds(event.time().seconds()), absl::UTCTimeZone()),
                      state_word(event.state()), "  ", event.kind(), ": ", printable(event.message()));
}

std::string checkpoint_folder(Client& client, const v1::Job& job) {
  if (job.latest_checkpoint().empty()) return "";
  const auto checkpoint = client.get_checkpoint(job.latest_checkpoint());
  return checkpoint.ok() ? checkpoint->folder() : "";
}

void print_results(std::ostream& out, const v1::Job& job, const std::string& folder) {
  out << "job " << last_part(job.name()) << ' ' << state_word(job.state()) << " after " << job.progress().step()
      << " steps";
  if (job.state() == v1::JOB_STATE_SUCCEEDED && job.has_result()) {
    const v1::Result& result = job.result();
    out << absl::StrFormat(": loss %.4f -> %.4f", result.first_loss(), result.final_loss());
    if (result.has_validation()) out << absl::StrFormat(", validation loss %.4f", result.validation_loss());
    out << absl::StrFormat(", %.0f tokens/s", result.tokens_per_second());
  }
  if (job.state() == v1::JOB_STATE_FAILED) out << ": " << failure_text(job.failure());
  out << '\n';
  if (!folder.empty()) out << "checkpoint: " << folder << '\n';
  if (!job.hf_export().empty()) out << "HF export: " << job.hf_export() << '\n';
}

}  // namespace

Result end_of_watch(Context& context, const absl::Status& status, const std::string& command) {
  if (status.ok()) return 0;
  if (status.code() != absl::StatusCode::kCancelled) return status;
  context.err() << "detached; the job goes on. To come back: " << command << '\n';
  return kDetached;
}

Result follow(Context& context, Interrupt& interrupt, const std::string& name) {
  Client& client = context.client();
  const auto before = client.get_job(name);
  if (!before.ok()) return before.status();
  Progress progress(context.err(), context.console.err_is_terminal, before->spec().training().steps());

  WatchOptions options;
  options.stop = interrupt.token();
  options.on_reconnect = [&](const absl::Status& lost) {
    progress.note(absl::StrCat("connection lost (", std::string(lost.message()), "); connecting again"));
  };
  std::stop_source stop_metrics;
  const std::stop_callback interrupted(interrupt.token(), [&] { stop_metrics.request_stop(); });
  WatchOptions metrics_options = options;
  metrics_options.stop = stop_metrics.get_token();
  metrics_options.on_reconnect = nullptr;  // one note for both streams
  auto metrics = std::async(std::launch::async, [&] {
    return watch_metrics(client, name, metrics_options,
                         [&](const v1::MetricRecord& record, const std::string&) { progress.report(record.report()); });
  });
  const absl::Status events = watch_events(
      client, name, options, [&](const v1::Event& event, const std::string&) { progress.note(event_line(event)); });
  if (!events.ok() || metrics.wait_for(kMetricsTail) != std::future_status::ready) stop_metrics.request_stop();
  metrics.wait();
  progress.finish();
  if (!events.ok()) return end_of_watch(context, events, absl::StrCat("qwen3ctl watch ", last_part(name)));

  const auto job = client.get_job(name);
  if (!job.ok()) return job.status();
  const std::string folder = checkpoint_folder(client, *job);
  if (context.json()) {
    context.out() << result_json(*job, folder) << '\n';
  } else {
    print_results(context.out(), *job, folder);
  }
  return exit_code(*job);
}

}  // namespace qwen3::client
