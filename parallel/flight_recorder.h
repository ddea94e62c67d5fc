// The last collectives of this rank, for the analysis of hangs: what went over which axis, when it began and whether it
// ended. A ring of fixed size: recording takes a lock and a reading of the clock and allocates nothing.
#pragma once
#include <c10/core/ScalarType.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace c10d {
class Work;
}

namespace qwen3::parallel {

class FlightRecorder {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr size_t kCapacity = 1024;

  // One collective. The views are valid as long as the recorder.
  struct Flight {
    std::string_view axis, operation;
    int64_t sequence = 0;  // on its axis, from 1: the same on every rank of the axis, which all make the same calls
    c10::ScalarType dtype = c10::ScalarType::Undefined;
    int64_t bytes = 0;  // that this rank put in for others: into a broadcast the root alone, into a gather all but it
    Clock::time_point started;
    std::optional<Clock::time_point> done;  // when its wait returned; on a GPU that only orders streams
    bool finished = false;                  // whether it is complete, also when nobody has waited for it yet
  };

  // Returns the axis' number. While the mesh is made.
  size_t add_axis(std::string name);

  struct Ticket {
    int64_t number = 0;    // of all this rank's collectives, from 1; 0: none
    int64_t sequence = 0;  // Flight::sequence
  };
  // A collective is about to be called; `operation` lives as long as the program.
  Ticket start(size_t axis, std::string_view operation, c10::ScalarType dtype, int64_t bytes);
  // What can be asked whether it is complete, until done(), failed() or forget(). `work` may be null.
  void in_flight(Ticket ticket, c10d::Work* work);
  void done(Ticket ticket);
  // It threw: it stays unfinished, and its Work is not asked any more.
  void failed(Ticket ticket);
  // Nobody will wait for it, and its Work goes.
  void forget(Ticket ticket);

  std::vector<Flight> flights() const;  // what the ring still holds, oldest first
  // On which collective the others may be waiting for this rank, or it for them.
  std::optional<Flight> oldest_unfinished() const;

 private:
  struct Slot {
    int64_t number = 0;  // of the ticket; 0: empty
    Flight flight;
    c10d::Work* work = nullptr;
  };
  Slot* slot_of(Ticket ticket);  // null: overwritten by a newer one

  struct Axis {
    std::string name;
    int64_t collectives = 0;
  };

  mutable std::mutex mutex_;  // guards all below
  std::deque<Axis> axes_;
  int64_t newest_ = 0;
  std::array<Slot, kCapacity> ring_;
};

// "#12 all_to_all over dp_shard, Float, 4096 bytes, started 1.204 s ago, unfinished"
std::string describe(const FlightRecorder::Flight& flight, FlightRecorder::Clock::time_point now);

// For a rank's log when it failed: the newest `most` and every unfinished one, a line each, oldest first.
std::string report(const FlightRecorder& recorder, size_t most = 32);

}  // namespace qwen3::parallel
