#include "client/commands/task.h"

#include <algorithm>
#include <filesystem>
#include <ostream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "client/errors.h"
#include "client/exit_code.h"
#include "client/format/json.h"
#include "client/format/text.h"
#include "client/interrupt.h"
#include "spec/config/toml.h"

namespace qwen3::client {
namespace {

using google::longrunning::Operation;

constexpr absl::Duration kPoll = absl::Milliseconds(500);
constexpr absl::Duration kPatience = absl::Minutes(5);  // without an answer of the coordinator
constexpr int kBarWidth = 24;

// On a terminal one line that is drawn over and over; elsewhere a line for each state.
class TaskProgress {
 public:
  TaskProgress(std::ostream& out, bool terminal) : out_(out), terminal_(terminal) {}

  void show(const v1::TaskMetadata& metadata) {
    std::string state = state_word(metadata.state());
    if (!metadata.pending_reason().empty()) absl::StrAppend(&state, " (", metadata.pending_reason(), ")");
    if (!terminal_) {
      if (state != state_) note(absl::StrCat(state, ": ", printable(metadata.status_message())));
      state_ = state;
      return;
    }
    const int64_t total = metadata.total();
    const int64_t done = std::min(metadata.done(), total);
    std::string line = state;
    if (total > 0) {
      const int filled =
          static_cast<int>(static_cast<double>(kBarWidth) * static_cast<double>(done) / static_cast<double>(total));
      line = absl::StrCat("[", std::string(filled, '#'), std::string(kBarWidth - filled, '.'), "] ", state, "  ",
                          metadata.unit() == "bytes" ? bytes_text(done) : absl::StrCat(done), " of ",
                          metadata.unit() == "bytes" ? bytes_text(total) : absl::StrCat(total, " ", metadata.unit()));
    }
    finish();
    out_ << line << std::flush;
    drawn_ = true;
  }
  void note(const std::string& line) {
    finish();
    out_ << line << std::endl;
  }
  void finish() {
    if (drawn_) out_ << "\r\x1b[K" << std::flush;
    drawn_ = false;
  }

 private:
  std::ostream& out_;
  const bool terminal_;
  bool drawn_ = false;
  std::string state_;
};

void print_result(std::ostream& out, const Operation& operation) {
  if (v1::EvaluationResult result; operation.response().UnpackTo(&result)) {
    out << absl::StrFormat("loss %.6f, perplexity %.4f, %d tokens\n", result.loss(), result.perplexity(),
                           result.tokens());
    if (!result.logits_file().empty()) out << "logits: " << result.logits_file() << '\n';
    if (!result.gradients_file().empty()) out << "gradients: " << result.gradients_file() << '\n';
  } else if (v1::ConversionResult result; operation.response().UnpackTo(&result)) {
    out << result.tensors() << " tensors, " << bytes_text(result.bytes()) << ", weights digest "
        << result.weights_digest() << '\n';
    if (!result.folder().empty()) out << "written: " << result.folder() << '\n';
    for (const std::string& problem : result.problems()) out << "problem: " << printable(problem) << '\n';
    if (result.folder().empty() && result.problems().empty()) out << "all is well\n";
  }
}

}  // namespace

std::string absolute_path(const std::string& path) {
  return path.empty() ? path : std::filesystem::absolute(path).lexically_normal().string();
}

absl::StatusOr<v1::ModelSource> model_source(const std::string& text) {
  v1::ModelSource source;
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, "hf:") && !rest.empty()) {
    source.set_hf(absolute_path(std::string(rest)));
  } else if (rest = text; absl::ConsumePrefix(&rest, "native:") && !rest.empty()) {
    source.set_native(absolute_path(std::string(rest)));
  } else if (absl::StartsWith(text, "tenants/")) {
    source.set_checkpoint(text);
  } else {
    const size_t slash = text.find('/');
    const std::string job = text.substr(0, slash);
    std::string part = slash == std::string::npos ? "" : text.substr(slash + 1);
    if (absl::StartsWith(part, "checkpoints/")) part.erase(0, sizeof("checkpoints/") - 1);
    if (job.empty() || text.find(':') != std::string::npos || part.find('/') != std::string::npos ||
        (slash != std::string::npos && !absl::StartsWith(part, "step-"))) {
      return absl::InvalidArgumentError(absl::StrCat("\"", text,
                                                     "\" names no model; write hf:DIR, native:DIR, JOB "
                                                     "(its newest checkpoint) or JOB/step-N"));
    }
    source.set_checkpoint(part.empty() ? job_name(job) : absl::StrCat(job_name(job), "/checkpoints/", part));
  }
  return source;
}

absl::Status apply_overrides(const std::vector<std::string>& set, v1::EvaluationSpec& spec) {
  const auto parsed = spec::config::parse_toml("", "--set", set);
  if (!parsed.errors.empty()) return absl::InvalidArgumentError(parsed.errors.front());
  v1::JobSpec others = parsed.spec;
  others.clear_parallelism();
  others.clear_resources();
  if (others.ByteSizeLong() > 0) {
    return absl::InvalidArgumentError("--set of an evaluation takes keys of parallelism and resources only");
  }
  *spec.mutable_parallelism() = parsed.spec.parallelism();
  *spec.mutable_resources() = parsed.spec.resources();
  return absl::OkStatus();
}

v1::TaskMetadata metadata_of(const Operation& operation) {
  v1::TaskMetadata metadata;
  operation.metadata().UnpackTo(&metadata);
  return metadata;
}

std::string kind_of(const v1::TaskMetadata& metadata) {
  if (metadata.has_evaluation()) return "evaluation";
  return metadata.conversion().to_case() == v1::ConversionSpec::TO_NOT_SET ? "verification" : "conversion";
}

absl::StatusOr<Operation> follow_operation(Context& context, Interrupt& interrupt, const Operation& operation,
                                           absl::Duration timeout) {
  TaskProgress progress(context.err(), context.console.err_is_terminal);
  const absl::Time until = absl::Now() + timeout;
  absl::Time heard = absl::Now();
  bool lost = false;
  Operation now = operation;
  while (true) {
    progress.show(metadata_of(now));
    if (now.done() || interrupt.token().stop_requested() || absl::Now() >= until) break;
    auto answer = context.client().wait_operation(now.name(), std::min(kPoll, until - absl::Now()));
    if (answer.ok()) {
      heard = absl::Now();
      lost = false;
      now = *std::move(answer);
    } else if (!absl::IsUnavailable(answer.status()) || absl::Now() - heard > kPatience) {
      progress.finish();
      return answer.status();
    } else if (!interrupt.token().stop_requested()) {
      if (!std::exchange(lost, true)) {
        progress.note(absl::StrCat("connection lost (", std::string(answer.status().message()), "); trying again"));
      }
      absl::SleepFor(kPoll);
    }
  }
  progress.finish();
  if (now.done()) return now;
  if (interrupt.token().stop_requested()) return absl::CancelledError("detached");
  return absl::DeadlineExceededError(
      absl::StrCat("operation ", last_part(now.name()), " is not finished after ", duration_text(timeout)));
}

Result end_of_task(Context& context, const std::string& name, const absl::StatusOr<Operation>& operation) {
  if (!operation.ok()) {
    if (!absl::IsCancelled(operation.status())) return operation.status();
    const std::string id = last_part(name);
    context.err() << "detached; the operation goes on. To come back: qwen3ctl operations wait " << id
                  << ", to end it: qwen3ctl operations cancel " << id << '\n';
    return kDetached;
  }
  if (context.json()) {
    context.out() << to_json(*operation) << '\n';
  } else if (!operation->has_error()) {
    print_result(context.out(), *operation);
  }
  if (operation->has_error()) {
    context.err() << "operation " << last_part(name) << ": "
                  << absl::StatusCodeToString(static_cast<absl::StatusCode>(operation->error().code())) << ": "
                  << printable(operation->error().message()) << '\n';
  }
  v1::ConversionResult verified;
  if (operation->response().UnpackTo(&verified) && verified.problems_size() > 0) return kJobFailedUser;
  return exit_code(*operation);
}

Result run_task(Context& context, const TaskOptions& options,
                const std::function<absl::StatusOr<Operation>(Client&)>& start) {
  Interrupt interrupt;  // before the client makes threads
  const auto operation = start(context.client());
  if (!operation.ok()) return operation.status();
  if (options.detach) {
    context.out() << (context.json() ? to_json(*operation) : operation->name()) << '\n';
    return kSucceeded;
  }
  context.err() << "operation " << last_part(operation->name()) << " accepted" << std::endl;
  return end_of_task(context, operation->name(), follow_operation(context, interrupt, *operation));
}

}  // namespace qwen3::client
