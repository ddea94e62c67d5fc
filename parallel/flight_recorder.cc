#include "parallel/flight_recorder.h"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cstdio>
#include <torch/csrc/distributed/c10d/Work.hpp>
#include <utility>

namespace qwen3::parallel {

FlightRecorder::Slot* FlightRecorder::slot_of(Ticket ticket) {
  Slot& slot = ring_[static_cast<size_t>(ticket.number) % kCapacity];
  return ticket.number > 0 && slot.number == ticket.number ? &slot : nullptr;
}

size_t FlightRecorder::add_axis(std::string name) {
  const std::lock_guard lock(mutex_);
  axes_.push_back({std::move(name)});
  return axes_.size() - 1;
}

FlightRecorder::Ticket FlightRecorder::start(size_t axis, std::string_view operation, c10::ScalarType dtype,
                                             int64_t bytes) {
  const auto now = Clock::now();
  const std::lock_guard lock(mutex_);
  Slot& slot = ring_[static_cast<size_t>(++newest_) % kCapacity];
  slot.number = newest_;
  slot.work = nullptr;
  slot.flight = {.axis = axes_[axis].name,
                 .operation = operation,
                 .sequence = ++axes_[axis].collectives,
                 .dtype = dtype,
                 .bytes = bytes,
                 .started = now};
  return {newest_, slot.flight.sequence};
}

void FlightRecorder::in_flight(Ticket ticket, c10d::Work* work) {
  const std::lock_guard lock(mutex_);
  if (Slot* slot = slot_of(ticket)) slot->work = work;
}

void FlightRecorder::done(Ticket ticket) {
  const auto now = Clock::now();
  const std::lock_guard lock(mutex_);
  Slot* slot = slot_of(ticket);
  if (slot == nullptr) return;
  slot->work = nullptr;
  slot->flight.done = now;
  slot->flight.finished = true;
}

void FlightRecorder::failed(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  if (Slot* slot = slot_of(ticket)) slot->work = nullptr;
}

void FlightRecorder::forget(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  Slot* slot = slot_of(ticket);
  if (slot == nullptr || slot->work == nullptr) return;
  slot->flight.finished = slot->work->isCompleted();
  slot->work = nullptr;
}

std::vector<FlightRecorder::Flight> FlightRecorder::flights() const {
  const std::lock_guard lock(mutex_);
  std::vector<Flight> flights;
  const int64_t oldest = std::max<int64_t>(1, newest_ - static_cast<int64_t>(kCapacity) + 1);
  for (int64_t number = oldest; number <= newest_; ++number) {
    const Slot& slot = ring_[static_cast<size_t>(number) % kCapacity];
    flights.push_back(slot.flight);
    if (slot.work != nullptr) flights.back().finished = slot.work->isCompleted();
  }
  return flights;
}

std::optional<FlightRecorder::Flight> FlightRecorder::oldest_unfinished() const {
  for (const Flight& flight : flights()) {
    if (!flight.finished) return flight;
  }
  return std::nullopt;
}

std::string describe(const FlightRecorder::Flight& flight, FlightRecorder::Clock::time_point now) {
  const auto seconds = [](FlightRecorder::Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  char times[96];
  if (flight.done) {
    std::snprintf(times, sizeof(times), "started %.3f s ago, done after %.6f s", seconds(now - flight.started),
                  seconds(*flight.done - flight.started));
  } else {
    std::snprintf(times, sizeof(times), "started %.3f s ago, %s", seconds(now - flight.started),
                  flight.finished ? "complete" : "unfinished");
  }
  return c10::str("#", flight.sequence, " ", flight.operation, " over ", flight.axis, ", ", toString(flight.dtype),
                  ", ", flight.bytes, " bytes, ", times);
}

std::string report(const FlightRecorder& recorder, size_t most) {
  const std::vector<FlightRecorder::Flight> flights = recorder.flights();
  const auto now = FlightRecorder::Clock::now();
  std::string lines;
  for (size_t i = 0; i < flights.size(); ++i) {
    if (i + most >= flights.size() || !flights[i].finished) lines += describe(flights[i], now) + "\n";
  }
  return lines;
}

}  // namespace qwen3::parallel
