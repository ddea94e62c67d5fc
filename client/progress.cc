#include "client/progress.h"

#include <algorithm>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/format/experts.h"
#include "client/format/text.h"

namespace qwen3::client {
namespace {

constexpr int kBarWidth = 24;
constexpr double kSmoothing = 0.1;

}  // namespace

Progress::Progress(std::ostream& out, bool terminal, int64_t total_steps)
    : out_(out), terminal_(terminal), total_steps_(total_steps) {}

void Progress::report(const v1::StepReport& report) {
  std::scoped_lock lock(mu_);
  seconds_per_step_ =
      seconds_per_step_ == 0 ? report.seconds() : (1 - kSmoothing) * seconds_per_step_ + kSmoothing * report.seconds();
  const int64_t left = std::max<int64_t>(total_steps_ - report.step(), 0);
  std::string text = absl::StrFormat("step %d/%d  loss %.4f  %.0f tokens/s  ETA %s", report.step(), total_steps_,
                                     report.loss(), report.tokens_per_second(),
                                     duration_text(absl::Seconds(static_cast<double>(left) * seconds_per_step_)));
  if (report.has_validation_loss()) absl::StrAppendFormat(&text, "  validation loss %.4f", report.validation_loss());
  if (report.has_moe()) absl::StrAppendFormat(&text, "  experts max/mean %.2f", worst_expert_load(report.moe()));
  if (!terminal_) {
    out_ << text << std::endl;
    return;
  }
  const int64_t total = std::max<int64_t>(total_steps_, 1);
  const int filled = static_cast<int>(kBarWidth * std::min(report.step(), total) / total);
  clear_line();
  line_ = absl::StrCat("[", std::string(filled, '#'), std::string(kBarWidth - filled, '.'), "] ", text);
  out_ << line_ << std::flush;
}

void Progress::note(const std::string& line) {
  std::scoped_lock lock(mu_);
  clear_line();
  out_ << line << '\n' << line_ << std::flush;
}

void Progress::finish() {
  std::scoped_lock lock(mu_);
  if (!line_.empty()) out_ << std::endl;
  line_.clear();
}

void Progress::clear_line() {
  if (!line_.empty()) out_ << "\r\x1b[K";
}

}  // namespace qwen3::client
