#include <ostream>

#include "client/commands/commands.h"
#include "client/format/json.h"
#include "client/format/text.h"

namespace qwen3::client {

Result cancel(Context& context, const std::string& name, const std::string& request_id) {
  const auto job = context.client().cancel_job(job_name(name), request_id);
  if (!job.ok()) return job.status();
  if (context.json()) {
    context.out() << to_json(*job) << '\n';
  } else {
    context.out() << "job " << last_part(job->name()) << ' ' << state_word(job->state()) << '\n';
  }
  return 0;
}

}  // namespace qwen3::client
