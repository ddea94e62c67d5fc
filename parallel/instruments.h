// What a rank notes about itself while it runs.
#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "parallel/flight_recorder.h"
#include "parallel/timeline.h"

namespace at {
class Tensor;
}

namespace qwen3::parallel {

struct Instruments {
  FlightRecorder flights;
  Timeline timeline;
  // Empty but in tests that plant faults: changes what a collective brought, before its caller sees it.
  std::function<void(std::string_view axis, std::string_view operation, const at::Tensor& received)> spoil;

  // Returns the axis' number in both. While the mesh is made.
  size_t add_axis(const std::string& name) {
    timeline.add_axis(name);
    return flights.add_axis(name);
  }
};

}  // namespace qwen3::parallel
