#include <ostream>

#include "absl/strings/str_cat.h"
#include "client/commands/task.h"
#include "client/exit_code.h"
#include "client/format/json.h"
#include "client/format/table.h"
#include "client/format/text.h"
#include "client/interrupt.h"

namespace qwen3::client {

Result operations_list(Context& context, int limit) {
  const auto operations = context.client().list_operations(limit);
  if (!operations.ok()) return operations.status();
  if (context.json()) {
    context.out() << to_json_array(*operations) << '\n';
    return 0;
  }
  Table table({"OPERATION", "KIND", "STATE", "DONE", "ATTEMPTS", "CREATED", "STATUS"});
  for (const google::longrunning::Operation& operation : *operations) {
    const v1::TaskMetadata metadata = metadata_of(operation);
    table.add({last_part(operation.name()), kind_of(metadata), state_word(metadata.state()),
               metadata.total() > 0 ? absl::StrCat(100 * metadata.done() / metadata.total(), "%") : "-",
               absl::StrCat(metadata.attempt_count()), time_text(metadata.create_time()),
               printable(metadata.status_message())});
  }
  table.print(context.out());
  return 0;
}

Result operations_get(Context& context, const std::string& id) {
  const auto operation = context.client().get_operation(operation_name(id));
  if (!operation.ok()) return operation.status();
  if (operation->done() && !context.json()) return end_of_task(context, operation->name(), operation);
  if (context.json()) {
    context.out() << to_json(*operation) << '\n';
    return 0;
  }
  const v1::TaskMetadata metadata = metadata_of(*operation);
  context.out() << kind_of(metadata) << ' ' << last_part(operation->name()) << ": " << state_word(metadata.state());
  if (!metadata.pending_reason().empty()) context.out() << " (" << metadata.pending_reason() << ')';
  if (metadata.total() > 0) {
    context.out() << ", " << metadata.done() << " of " << metadata.total() << ' ' << metadata.unit();
  }
  context.out() << "; " << printable(metadata.status_message()) << '\n';
  return 0;
}

Result operations_wait(Context& context, const std::string& id, absl::Duration timeout) {
  Interrupt interrupt;
  const auto operation = context.client().get_operation(operation_name(id));
  if (!operation.ok()) return operation.status();
  const auto end = follow_operation(context, interrupt, *operation, timeout);
  if (absl::IsDeadlineExceeded(end.status()) && timeout != absl::InfiniteDuration()) {
    context.err() << std::string(end.status().message()) << '\n';
    return kTimeout;
  }
  return end_of_task(context, operation->name(), end);
}

Result operations_cancel(Context& context, const std::string& id) {
  const std::string name = operation_name(id);
  if (absl::Status status = context.client().cancel_operation(name); !status.ok()) return status;
  const auto operation = context.client().get_operation(name);
  if (!operation.ok()) return operation.status();
  if (context.json()) {
    context.out() << to_json(*operation) << '\n';
  } else {
    context.out() << "operation " << last_part(name) << ' ' << state_word(metadata_of(*operation).state()) << '\n';
  }
  return 0;
}

}  // namespace qwen3::client
