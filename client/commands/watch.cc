#include "client/commands/commands.h"
#include "client/interrupt.h"

namespace qwen3::client {

Result watch(Context& context, const std::string& job) {
  Interrupt interrupt;
  return follow(context, interrupt, job_name(job));
}

}  // namespace qwen3::client
