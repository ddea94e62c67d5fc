#include <ostream>

#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/format/json.h"
#include "client/format/table.h"
#include "client/format/text.h"

namespace qwen3::client {

Result checkpoints(Context& context, const std::string& job) {
  const auto checkpoints = context.client().list_checkpoints(job_name(job));
  if (!checkpoints.ok()) return checkpoints.status();
  if (context.json()) {
    context.out() << to_json_array(*checkpoints) << '\n';
    return 0;
  }
  Table table({"STEP", "STATE", "SIZE", "ATTEMPT", "COMMITTED", "FOLDER"});
  for (const v1::Checkpoint& checkpoint : *checkpoints) {
    table.add({absl::StrCat(checkpoint.step()), state_word(checkpoint.state()), bytes_text(checkpoint.size_bytes()),
               absl::StrCat(checkpoint.attempt()), time_text(checkpoint.commit_time()), checkpoint.folder()});
  }
  table.print(context.out());
  return 0;
}

}  // namespace qwen3::client
