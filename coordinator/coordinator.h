// The whole coordinator: state, services and ports. The binary is this plus flags and signals; tests run it in process.
#pragma once
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/options.h"

namespace qwen3::coordinator {

class Coordinator {
 public:
  struct Ports {
    int api = 0;
    int worker = 0;
    int http = 0;
  };

  // Serving when it returns. FAILED_PRECONDITION: an address that is not loopback without `insecure`, or a folder that
  // cannot be used. ABORTED: another coordinator holds the state folder; the message names its pid. UNAVAILABLE: a port
  // is taken.
  static absl::StatusOr<std::unique_ptr<Coordinator>> start(const Options& options);
  // stop().
  ~Coordinator();

  Ports ports() const;
  // Ends every stream with its resume token, flushes, closes the ports. Idempotent.
  void stop();

 private:
  struct Parts;
  explicit Coordinator(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace qwen3::coordinator
