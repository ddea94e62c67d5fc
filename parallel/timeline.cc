#include "parallel/timeline.h"

#include <utility>

namespace qwen3::parallel {

void Timeline::add_axis(std::string name) {
  axes_.push_back(std::move(name));
  spent_.emplace_back(0);
}

void Timeline::charge(size_t account, Clock::time_point now) {
  spent_[account_] += now - since_;
  since_ = now;
  account_ = account;
}

Timeline::Charge::Charge(Timeline& timeline, size_t account, std::string_view operation, int64_t number)
    : timeline_(timeline), before_(timeline.account_), span_{Span::Kind::kWait, account, operation, number, 0,
                                                             Clock::now(),      {}} {
  timeline_.charge(account, span_.begin);
}

Timeline::Charge::~Charge() {
  span_.end = Clock::now();
  timeline_.charge(before_, span_.end);
  timeline_.add(span_);
}

void Timeline::begin_step(int64_t step) {
  const auto now = Clock::now();
  spent_.assign(spent_.size(), Clock::duration(0));
  account_ = kOther;
  since_ = now;
  backward_.number = -1;
  step_ = {Span::Kind::kStep, kOther, {}, step, 0, now, {}};
  phase_ = {Span::Kind::kPhase, kOther, {}, step, 0, now, {}};
}

void Timeline::enter(Account phase) {
  phase_.end = Clock::now();
  charge(phase, phase_.end);
  if (phase_.account != kOther) add(phase_);
  phase_ = {Span::Kind::kPhase, phase, {}, step_.number, 0, phase_.end, {}};
}

double Timeline::end_step() {
  enter(kOther);
  step_.end = phase_.begin;
  add(step_);
  return std::chrono::duration<double>(step_.end - step_.begin).count();
}

void Timeline::keep_spans(size_t most) {
  kept_ = {};
  kept_.spans.reserve(most);
  keeps_spans_ = true;
}

void Timeline::add(const Span& span) {
  if (!keeps_spans_) return;
  if (kept_.spans.size() == kept_.spans.capacity()) {
    ++kept_.dropped;
  } else {
    kept_.spans.push_back(span);
  }
}

void Timeline::begin_backward(int64_t unit) {
  end_backward();
  backward_ = {Span::Kind::kBackward, kCompute, {}, unit, 0, Clock::now(), {}};
}

void Timeline::end_backward() {
  if (backward_.number < 0) return;
  backward_.end = Clock::now();
  add(backward_);
  backward_.number = -1;
}

Timeline::Kept Timeline::take_spans() {
  keeps_spans_ = false;
  return std::exchange(kept_, {});
}

}  // namespace qwen3::parallel
