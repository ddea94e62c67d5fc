#include <algorithm>
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

std::string in_steps(int64_t steps) { return absl::StrCat(steps, steps == 1 ? " step" : " steps"); }

// Whether the attempt of `before`, which was told to record, may still write.
bool may_write(const v1::Job& job, const v1::Job& before) {
  const v1::JobState state = job.state();
  const bool has_ranks =
      state == v1::JOB_STATE_RUNNING || state == v1::JOB_STATE_PAUSING || state == v1::JOB_STATE_STOPPING;
  return has_ranks && job.attempt_count() == before.attempt_count();
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
    // An attempt that has ended wrote before it did.
    if (!may_write(*job, before) && !std::ifstream(file_of(trace, rank))) {
      return absl::FailedPreconditionError(absl::StrCat("the attempt ended before rank ", rank, " wrote ",
                                                        file_of(trace, rank), ", or its folder is not seen from here"));
    }
    absl::SleepFor(kPoll);
  }
  return absl::OkStatus();
}

struct Merged {
  Json trace;
  int64_t steps = 0;    // which all ranks have
  int64_t dropped = 0;  // spans of all ranks that their files had no room for
};

// A step is noted at its end, so only whole ones count.
int64_t count_steps(const Json& events) {
  return std::count_if(events.begin(), events.end(), [](const Json& event) {
    const auto category = event.find("cat");
    return category != event.end() && *category == "step";
  });
}

absl::StatusOr<Merged> merged(const v1::TraceJobResponse& trace) {
  const Json::json_pointer dropped("/otherData/dropped_spans");
  Merged all;
  for (int rank = 0; rank < trace.ranks(); ++rank) {
    std::ifstream file(file_of(trace, rank));
    Json one = Json::parse(file, /*cb=*/nullptr, /*allow_exceptions=*/false);
    if (!one.is_object() || !one.contains("traceEvents")) {
      return absl::DataLossError(absl::StrCat(file_of(trace, rank), " is no trace"));
    }
    const int64_t steps = count_steps(one["traceEvents"]);
    all.steps = rank == 0 ? steps : std::min(all.steps, steps);
    if (one.contains(dropped) && one[dropped].is_number_integer()) all.dropped += one[dropped].get<int64_t>();
    if (rank == 0) {
      all.trace = std::move(one);
    } else {
      for (Json& event : one["traceEvents"]) all.trace["traceEvents"].push_back(std::move(event));
    }
  }
  all.trace["otherData"] = {{"dropped_spans", all.dropped}};
  return all;
}

void warn(std::ostream& err, const Merged& all, int64_t wanted) {
  if (all.dropped > 0) {
    err << "warning: " << all.dropped << " spans were dropped, as a rank keeps only so many; ask for fewer steps\n";
  }
  if (all.steps < wanted) {
    err << "warning: only " << all.steps << " of " << in_steps(wanted) << " are there"
        << (all.dropped > 0 ? "" : ", because the run ended") << '\n';
  }
}

}  // namespace

Result trace(Context& context, const TraceOptions& options) {
  Interrupt interrupt;
  const auto before = context.client().get_job(job_name(options.job));
  if (!before.ok()) return before.status();
  const auto trace = context.client().trace_job(before->name(), options.steps, options.request_id);
  if (!trace.ok()) return trace.status();
  context.err() << "waiting for " << in_steps(options.steps) << "; ranks write to " << trace->folder() << '\n';
  if (absl::Status status = wait_for_files(context, *trace, *before, interrupt.token()); !status.ok()) return status;
  const auto all = merged(*trace);
  if (!all.ok()) return all.status();
  const std::string output =
      options.output.empty() ? absl::StrCat("trace-", last_part(before->name()), ".json") : options.output;
  std::ofstream file(output);
  file << all->trace.dump() << '\n';
  file.close();
  if (!file) return absl::InvalidArgumentError(absl::StrCat("--output: cannot write ", output));
  warn(context.err(), *all, options.steps);
  if (context.json()) {
    context.out() << Json{{"file", output},
                          {"folder", trace->folder()},
                          {"ranks", trace->ranks()},
                          {"steps", all->steps},
                          {"dropped_spans", all->dropped}}
                         .dump()
                  << '\n';
  } else {
    context.out() << output << ": " << in_steps(all->steps) << " of " << trace->ranks()
                  << " ranks; open it in https://ui.perfetto.dev or chrome://tracing\n";
  }
  return 0;
}

}  // namespace qwen3::client
