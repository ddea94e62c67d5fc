#include "client/download/meter.h"

#include <ostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/format/text.h"

namespace qwen3::client::download {
namespace {

constexpr absl::Duration kRedraw = absl::Milliseconds(200);
constexpr absl::Duration kLineElsewhere = absl::Seconds(10);
constexpr absl::Duration kRateSpan = absl::Seconds(2);
constexpr double kSmoothing = 0.3;

}  // namespace

Meter::Meter(std::ostream& out, bool terminal, std::function<absl::Time()> now)
    : out_(out), terminal_(terminal), now_(std::move(now)), mark_time_(now_()), drawn_(mark_time_) {}

void Meter::start(const std::string& name, int64_t done, int64_t total) {
  name_ = name;
  total_ = total;
  done_ = mark_done_ = done;
  mark_time_ = now_();
  if (terminal_) draw(mark_time_);
}

void Meter::advance(int64_t done) {
  const absl::Time at = now_();
  if (done < done_) mark_done_ = done, mark_time_ = at;
  done_ = done;
  if (at - mark_time_ >= kRateSpan) {
    const double rate = static_cast<double>(done_ - mark_done_) / absl::ToDoubleSeconds(at - mark_time_);
    bytes_per_second_ = bytes_per_second_ == 0 ? rate : (1 - kSmoothing) * bytes_per_second_ + kSmoothing * rate;
    mark_done_ = done_, mark_time_ = at;
  }
  if (at - drawn_ >= (terminal_ ? kRedraw : kLineElsewhere)) draw(at);
}

void Meter::note(const std::string& line) {
  clear_line();
  out_ << line << std::endl;
}

void Meter::finish() { clear_line(); }

void Meter::draw(absl::Time at) {
  drawn_ = at;
  std::string line = absl::StrCat(name_, "  ", bytes_text(done_), " of ", bytes_text(total_));
  if (bytes_per_second_ >= 1) {
    const double left = static_cast<double>(total_ - done_) / bytes_per_second_;
    absl::StrAppend(&line, "  ", bytes_text(static_cast<int64_t>(bytes_per_second_)), "/s  ETA ",
                    duration_text(absl::Seconds(left)));
  }
  clear_line();
  out_ << line;
  if (terminal_) {
    line_shown_ = true;
    out_ << std::flush;
  } else {
    out_ << std::endl;
  }
}

void Meter::clear_line() {
  if (line_shown_) out_ << "\r\x1b[K";
  line_shown_ = false;
}

}  // namespace qwen3::client::download
