#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands/commands.h"
#include "client/format/json.h"
#include "client/format/table.h"
#include "client/format/text.h"

namespace qwen3::client {

Result list(Context& context, int limit) {
  const auto jobs = context.client().list_jobs(limit);
  if (!jobs.ok()) return jobs.status();
  if (context.json()) {
    context.out() << to_json_array(*jobs) << '\n';
    return 0;
  }
  Table table({"JOB", "STATE", "STEP", "LOSS", "TOKENS/S", "ATTEMPTS", "CREATED", "DESCRIPTION"});
  for (const v1::Job& job : *jobs) {
    const v1::Progress& progress = job.progress();
    const bool stepped = progress.step() > 0;
    table.add({last_part(job.name()), state_word(job.state()),
               absl::StrCat(progress.step(), "/", job.spec().training().steps()),
               stepped ? absl::StrFormat("%.4f", progress.loss()) : "-",
               stepped ? absl::StrFormat("%.0f", progress.tokens_per_second()) : "-", absl::StrCat(job.attempt_count()),
               time_text(job.create_time()), printable(job.spec().job().description())});
  }
  table.print(context.out());
  return 0;
}

}  // namespace qwen3::client
