// What a daemon is told at its start.
#pragma once
#include <chrono>
#include <optional>
#include <string>

namespace qwen3::worker {

struct DaemonOptions {
  std::string coordinator = "127.0.0.1:7401";  // HOST:PORT of its worker port
  std::string worker_id;                       // 1-63 of [a-z0-9-]
  int slots = 1;
  std::string device_kind = "cpu";  // "cpu" or "cuda"
  std::string advertise_address = "127.0.0.1";
  std::string advertise_interface;  // empty: the one that has the address
  std::string rank_binary;          // path of qwen3-rank
  std::string data_root;            // QWEN3_DATA of the ranks
  // LD_LIBRARY_PATH of the ranks. Default: this process's own.
  std::optional<std::string> library_path;

  std::chrono::milliseconds beat_interval{1000};
  // A rank that said it is done and still runs after this time is killed.
  std::chrono::milliseconds exit_grace{10'000};
  // How long the report of a rank's end waits for its last records to be acknowledged.
  std::chrono::milliseconds exit_record_wait{2000};
  // How long a daemon that stops waits for the coordinator to take its last reports.
  std::chrono::milliseconds flush_timeout{2000};
};

}  // namespace qwen3::worker
