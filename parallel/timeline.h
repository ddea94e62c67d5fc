// Where this rank's time goes. At any moment it is charged to exactly one account, so that the accounts of a step add
// up to the step's seconds; on request the charges, the layers and the collectives are kept as spans for a trace. Times
// are the host's: over NCCL a wait only orders streams, and what a device waits is not seen here.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace qwen3::parallel {

// Used by the thread that trains and by autograd's threads on its behalf, one after the other.
class Timeline {
 public:
  using Clock = std::chrono::steady_clock;

  // From kFirstAxis on: waiting for the peers of the axis of that number.
  enum Account : size_t { kOther, kCompute, kData, kOptimizer, kFirstAxis };

  struct Span {
    enum class Kind : uint8_t { kStep, kPhase, kWait, kForward, kBackward, kCollective };
    Kind kind = Kind::kStep;
    size_t account = kOther;     // of the phase; that of the axis, for a wait or collective
    std::string_view operation;  // of kCollective and of a wait; lives as long as the program
    int64_t number = 0;          // the step, the unit, or the collective's number on its axis
    int64_t bytes = 0;           // of kCollective
    Clock::time_point begin, end;
  };

  // An axis of this name, which gets the account kFirstAxis + its number. Before the first step.
  void add_axis(std::string name);
  const std::string& axis_name(size_t account) const { return axes_[account - kFirstAxis]; }
  size_t accounts() const { return kFirstAxis + axes_.size(); }

  // Charges the time of its life, a wait, to an axis' account, then again to the account before.
  class Charge {
   public:
    Charge(Timeline& timeline, size_t account, std::string_view operation, int64_t number);
    ~Charge();
    Charge(const Charge&) = delete;
    Charge& operator=(const Charge&) = delete;

   private:
    Timeline& timeline_;
    size_t before_;
    Span span_;
  };

  // From here on the time is the step's, charged to kOther until told otherwise.
  void begin_step(int64_t step);
  // The step's next phase: kOther, kCompute, kData or kOptimizer.
  void enter(Account phase);
  // Ends the step; returns its seconds, which are the sum of seconds(account) over all accounts.
  double end_step();
  double seconds(size_t account) const { return std::chrono::duration<double>(spent_[account]).count(); }

  // Keeps spans from now on, at most `most` of them; later ones are counted and dropped.
  void keep_spans(size_t most);
  bool keeps_spans() const { return keeps_spans_; }
  void add(const Span& span);
  // The backward of a unit begins, and that of the unit before ends.
  void begin_backward(int64_t unit);
  void end_backward();
  struct Kept {
    std::vector<Span> spans;  // in the order in which they ended
    int64_t dropped = 0;
  };
  Kept take_spans();  // and stops keeping them

 private:
  void charge(size_t account, Clock::time_point now);

  std::deque<std::string> axes_;
  std::vector<Clock::duration> spent_ = std::vector<Clock::duration>(kFirstAxis);  // by account
  size_t account_ = kOther;
  Clock::time_point since_ = Clock::now();  // charged up to here
  Span step_, phase_;
  bool keeps_spans_ = false;
  Kept kept_;
  Span backward_{.number = -1};  // open while its number is not negative
};

}  // namespace qwen3::parallel
