#include "worker/daemon/options_check.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "worker/daemon/host.h"

namespace qwen3::worker {

std::string default_device_kind() {
#ifdef QWEN3_CUDA
  if (gpu_count() > 0) return "cuda";
#endif
  return "cpu";
}

int default_slots(const std::string& device_kind) { return device_kind == "cuda" ? std::max(1, gpu_count()) : 1; }

absl::Status set_advertise(const std::string& text, DaemonOptions& options) {
  const auto wrong = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("--advertise wants HOST or HOST:INTERFACE, an IPv6 address in brackets, but got '", text, "'"));
  };
  std::string rest;
  if (!text.empty() && text.front() == '[') {
    const size_t end = text.find(']');
    if (end == std::string::npos) return wrong();
    options.advertise_address = text.substr(1, end - 1);
    rest = text.substr(end + 1);
  } else {
    const size_t colon = std::min(text.find(':'), text.size());
    options.advertise_address = text.substr(0, colon);
    rest = text.substr(colon);
  }
  if (options.advertise_address.empty()) return wrong();
  if (rest.empty()) return absl::OkStatus();
  if (rest.front() != ':' || rest.size() == 1 || rest.find(':', 1) != std::string::npos) return wrong();
  options.advertise_interface = rest.substr(1);
  return absl::OkStatus();
}

absl::Status check_options(const DaemonOptions& options) {
  const size_t colon = options.coordinator.rfind(':');
  int port = 0;
  if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(options.coordinator.substr(colon + 1), &port) ||
      port < 1 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("--coordinator wants HOST:PORT, but got '", options.coordinator, "'"));
  }
  const bool id_fits =
      !options.worker_id.empty() && options.worker_id.size() <= 63 &&
      options.worker_id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
  if (!id_fits) {
    return absl::InvalidArgumentError(
        absl::StrCat("--id wants 1 to 63 characters of [a-z0-9-], but got '", options.worker_id, "'"));
  }
  if (options.slots < 1) {
    return absl::InvalidArgumentError(absl::StrCat("--slots wants at least 1, but got ", options.slots));
  }
  if (::access(options.rank_binary.c_str(), X_OK) != 0) {
    return absl::NotFoundError(absl::StrCat("--rank-binary ", options.rank_binary, ": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace qwen3::worker
