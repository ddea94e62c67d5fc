#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/commands/commands.h"
#include "client/format/json.h"
#include "client/format/table.h"
#include "client/format/text.h"

namespace qwen3::client {

Result workers(Context& context) {
  const auto workers = context.client().list_workers();
  if (!workers.ok()) return workers.status();
  if (context.json()) {
    context.out() << to_json_array(*workers) << '\n';
    return 0;
  }
  Table table({"WORKER", "STATE", "DEVICE", "SLOTS", "FREE", "JOBS", "CORES", "MEMORY", "ADDRESS", "BUILD"});
  for (const v1::Worker& worker : *workers) {
    std::vector<std::string> jobs;
    int free = 0;
    for (const v1::Slot& slot : worker.slots()) {
      if (slot.job().empty()) {
        ++free;
      } else {
        jobs.push_back(absl::StrCat(last_part(slot.job()), ":", slot.rank()));
      }
    }
    table.add({last_part(worker.name()), state_word(worker.state()), worker.device_kind(),
               absl::StrCat(worker.slots_size()), absl::StrCat(free), jobs.empty() ? "-" : absl::StrJoin(jobs, ","),
               absl::StrCat(worker.cores()), bytes_text(worker.memory_bytes()), worker.advertise_address(),
               worker.build_id()});
  }
  table.print(context.out());
  return 0;
}

}  // namespace qwen3::client
