#include "worker/daemon/host.h"

#include <sched.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"

namespace qwen3::worker {

int host_cores() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return std::max(1, static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
}

int64_t host_memory_bytes() {
  return static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<int64_t>(::sysconf(_SC_PAGE_SIZE));
}

int gpu_count() {
  int count = 0;
  std::error_code error;
  while (std::filesystem::exists("/dev/nvidia" + std::to_string(count), error)) ++count;
  return count;
}

std::string worker_id_from_hostname(std::string_view hostname) {
  std::string id;
  for (unsigned char c : hostname.substr(0, 63)) id.push_back(std::isalnum(c) ? absl::ascii_tolower(c) : '-');
  return id.empty() ? "worker" : id;
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "";
  return name.data();
}

std::string random_incarnation() {
  std::string bytes(8, '\0');
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    const auto pid = static_cast<uint64_t>(::getpid());  // no entropy yet: still differs between two processes
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(pid >> (8 * i));
  }
  return absl::BytesToHexString(bytes);
}

}  // namespace qwen3::worker
