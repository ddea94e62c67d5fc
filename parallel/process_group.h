// Process groups and the store their members meet at. Only this file knows c10d's back ends; only collectives.cc calls
// a group. Tensors on CPU travel over Gloo. A group between GPUs has NCCL beside it, made by parallel/cuda/: also there
// counts, squares of norms and digests are on CPU.
#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace qwen3::parallel {

// The key-value store through which the ranks of one attempt find each other.
class Rendezvous {
 public:
  struct Impl;
  // Binds `port` (0: any free one) on this host and serves the store. Keys are prefixed by `prefix`
  // (job, attempt, epoch), so that a late rank of an older attempt can never join.
  static std::shared_ptr<Rendezvous> host(int port, int64_t world_size, const std::string& prefix);
  // Connects to a store that another rank hosts at HOST:PORT. Throws c10::DistError if it cannot within 60 s.
  static std::shared_ptr<Rendezvous> join(const std::string& address, int64_t world_size, const std::string& prefix);
  // For ranks that are threads of one process.
  static std::shared_ptr<Rendezvous> in_process();

  explicit Rendezvous(std::unique_ptr<Impl> impl);
  ~Rendezvous();
  int port() const;  // of host()
  Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

struct GroupOptions {
  std::string address = "127.0.0.1";  // this rank's address: a host name or an IP
  std::string interface;              // network interface to use instead, e.g. "eth0"; empty: that of the address
  bool cuda = false;                  // NCCL for tensors on GPUs, beside Gloo for those on CPU
  std::chrono::seconds timeout{300};  // of one collective; a dead peer is seen at once, this catches a hung one
};

// A group of ranks that make the same collective calls in the same order.
class ProcessGroup {
 public:
  struct Impl;
  explicit ProcessGroup(std::unique_ptr<Impl> impl);
  ~ProcessGroup();
  Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// Making a group is itself a collective over its members; `name` must be unique within the rendezvous. Throws
// c10::DistError when a peer is lost, std::system_error when this host has no such address or interface; with
// options.cuda and no GPU c10::Error, before it waits for anybody.
std::shared_ptr<ProcessGroup> make_group(Rendezvous& rendezvous, const std::string& name, int64_t rank, int64_t size,
                                         const GroupOptions& options);

}  // namespace qwen3::parallel
