#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands/commands.h"
#include "client/format/experts.h"
#include "client/format/json.h"
#include "client/format/split.h"
#include "client/format/text.h"
#include "client/interrupt.h"
#include "client/watch.h"

namespace qwen3::client {

Result metrics(Context& context, const std::string& job, bool follow) {
  Interrupt interrupt;
  constexpr char kHeader[] = "   STEP  ATTEMPT      LOSS  GRAD NORM        LR  TOKENS/S   SECONDS  VALIDATION";
  constexpr char kSplitHeader[] = "  COMPUTE     WAIT  OPTIMIZER     DATA    OTHER";  // of SECONDS, on rank 0
  constexpr char kExpertsHeader[] = "  MAX/MEAN  DEAD";  // of the experts: worst layer, all layers
  bool header = context.json();                          // printed, or not wanted
  const auto print = [&](const v1::MetricRecord& record, const std::string&) {
    if (context.json()) {
      context.out() << to_json(record) << std::endl;
      return;
    }
    const v1::StepReport& report = record.report();
    if (!header) {
      context.out() << kHeader << (report.has_split() ? kSplitHeader : "") << (report.has_moe() ? kExpertsHeader : "")
                    << '\n';
    }
    header = true;
    context.out() << absl::StrFormat(
        "%7d  %7d  %8.4f  %9.4f  %8.2e  %8.0f  %8.3f  %10s", report.step(), record.attempt(), report.loss(),
        report.grad_norm(), report.lr(), report.tokens_per_second(), report.seconds(),
        report.has_validation_loss() ? absl::StrFormat("%.4f", report.validation_loss()) : "-");
    if (report.has_split()) {
      const v1::StepSplit& split = report.split();
      context.out() << absl::StrFormat("  %7.3f  %7.3f  %9.3f  %7.3f  %7.3f", split.compute_seconds(),
                                       wait_seconds(split), split.optimizer_seconds(), split.data_seconds(),
                                       split.other_seconds());
    }
    if (report.has_moe()) {
      context.out() << absl::StrFormat("  %8.2f  %4d", worst_expert_load(report.moe()), dead_experts(report.moe()));
    }
    context.out() << std::endl;
  };
  const absl::Status end =
      watch_metrics(context.client(), job_name(job), {.follow = follow, .stop = interrupt.token()}, print);
  return end_of_watch(context, end, absl::StrCat("qwen3ctl metrics -f ", job));
}

}  // namespace qwen3::client
