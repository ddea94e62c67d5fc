#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <stop_token>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/commands/commands.h"
#include "client/format/json.h"
#include "client/interrupt.h"

namespace qwen3::client {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::Duration kPoll = absl::Milliseconds(100);

// A rank's file, which is there as a whole or not at all.
std::string file_of(const v1::TraceJobResponse& trace, int rank) {
  return absl::StrCat(trace.folder(), "/rank", rank, "_trace.json");
}

// OK: all files are there. Otherwise why they will not come.
absl::Status wait_for_files(Context& context, const v1::TraceJobResponse& trace, const v1::Job& before,
                            const std::stop_token& stop) {
  for (int rank = 0; rank < trace.ranks();) {
    if (std::ifstream(file_of(trace, rank))) {
      ++rank;
      continue;
    }
    if (stop.stop_requested()) return absl::CancelledError("interrupted; the ranks go on and write their files");
    const auto job = context.client().get_job(before.name());
    if (!job.ok()) return job.status();
    // A job that has ended wrote before it did.
    const bool over = is_terminal(job->state()) && !std::ifstream(file_of(trace, rank));
    if (over || job->attempt_count() != before.attempt_count()) {
      return absl::FailedPreconditionError(absl::StrCat("the attempt ended before rank ", rank, " wrote ",
                                                        file_of(trace, rank), ", or its folder is not seen from here"));
    }
    absl::SleepFor(kPoll);
  }
  return absl::OkStatus();
}

absl::StatusOr<Json> merged(const v1::TraceJobResponse& trace) {
  Json all;
  for (int rank = 0; rank < trace.ranks(); ++rank) {
    std::ifstream file(file_of(trace, rank));
    Json one = Json::parse(file, /*cb=*/nullptr, /*allow_exceptions=*/false);
    if (!one.is_object() || !one.contains("traceEvents")) {
      return absl::DataLossError(absl::StrCat(file_of(trace, rank), " is no trace"));
    }
    if (rank == 0) {
      all = std::move(one);
    } else {
      for (Json& event : one["traceEvents"]) all["traceEvents"].push_back(std::move(event));
    }
  }
  return all;
}

}  // namespace

Result trace(Context& context, const TraceOptions& options) {
  Interrupt interrupt;
  const auto before = context.client().get_job(job_name(options.job));
  if (!before.ok()) return before.status();
  const auto trace = context.client().trace_job(before->name(), options.steps, options.request_id);
  if (!trace.ok()) return trace.status();
  context.err() << "waiting for the next " << options.steps << " steps; ranks write to " << trace->folder() << '\n';
  if (absl::Status status = wait_for_files(context, *trace, *before, interrupt.token()); !status.ok()) return status;
  const auto all = merged(*trace);
  if (!all.ok()) return all.status();
  const std::string output =
      options.output.empty() ? absl::StrCat("trace-", last_part(before->name()), ".json") : options.output;
  std::ofstream file(output);
  file << all->dump() << '\n';
  file.close();
  if (!file) return absl::InvalidArgumentError(absl::StrCat("--output: cannot write ", output));
  if (context.json()) {
    context.out() << Json{{"file", output}, {"folder", trace->folder()}, {"ranks", trace->ranks()}}.dump() << '\n';
  } else {
    context.out() << output << ": " << options.steps << " steps of " << trace->ranks()
                  << " ranks; open it in https://ui.perfetto.dev or chrome://tracing\n";
  }
  return 0;
}

}  // namespace qwen3::client
