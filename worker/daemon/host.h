// Facts about this host that a daemon announces.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace qwen3::worker {

int host_cores();             // that this process may run on
int64_t host_memory_bytes();  // physical memory
int gpu_count();              // /dev/nvidiaN
// The host's name as a worker id: lower case, 1-63 of [a-z0-9-], other characters become '-'.
std::string worker_id_from_hostname(std::string_view hostname);
std::string host_name();
// 16 hex digits that differ between two starts of a process.
std::string random_incarnation();

}  // namespace qwen3::worker
