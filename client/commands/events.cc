#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands/commands.h"
#include "client/format/json.h"
#include "client/format/text.h"
#include "client/interrupt.h"
#include "client/watch.h"

namespace qwen3::client {

Result events(Context& context, const std::string& job, bool follow) {
  Interrupt interrupt;
  const auto print = [&](const v1::Event& event, const std::string&) {
    if (context.json()) {
      context.out() << to_json(event) << std::endl;
    } else {
      context.out() << absl::StrFormat("%4d  %s  %-10s  %s: %s", event.seq(), time_text(event.time()),
                                       state_word(event.state()), event.kind(), printable(event.message()))
                    << std::endl;
    }
  };
  const absl::Status end =
      watch_events(context.client(), job_name(job), {.follow = follow, .stop = interrupt.token()}, print);
  return end_of_watch(context, end, absl::StrCat("qwen3ctl events -f ", job));
}

}  // namespace qwen3::client
