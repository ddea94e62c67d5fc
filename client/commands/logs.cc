#include <ostream>

#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/format/json.h"
#include "client/format/text.h"
#include "client/interrupt.h"
#include "client/watch.h"

namespace qwen3::client {

Result logs(Context& context, const LogsOptions& options) {
  Interrupt interrupt;
  const auto print = [&](const v1::LogRecord& record, const std::string&) {
    if (context.json()) {
      context.out() << to_json(record) << std::endl;
      return;
    }
    const std::string prefix = absl::StrCat("[", record.attempt(), ".", record.rank(), "] ");
    if (record.dropped() > 0) context.out() << prefix << "(dropped " << record.dropped() << " lines)\n";
    context.out() << prefix << printable(record.line()) << std::endl;
  };
  const absl::Status end = watch_logs(context.client(), job_name(options.job), options.ranks,
                                      {.follow = options.follow, .stop = interrupt.token()}, print);
  return end_of_watch(context, end, absl::StrCat("qwen3ctl logs -f ", options.job));
}

}  // namespace qwen3::client
