#include "parallel/process_group.h"

#include <c10/util/Exception.h>

#include <cstdlib>
#include <system_error>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>

#include "parallel/cuda/cuda.h"
#include "parallel/process_group_impl.h"

namespace qwen3::parallel {
namespace {

std::shared_ptr<Rendezvous> tcp_rendezvous(const std::string& host, const c10d::TCPStoreOptions& options,
                                           const std::string& prefix) {
  auto tcp = c10::make_intrusive<c10d::TCPStore>(host, options);
  auto impl = std::make_unique<Rendezvous::Impl>();
  impl->port = tcp->getPort();
  impl->store = c10::make_intrusive<c10d::PrefixStore>(prefix, std::move(tcp));
  return std::make_shared<Rendezvous>(std::move(impl));
}

// c10d's flight recorder is one per process and changes a map without its lock when a group records for the first time,
// which breaks ranks that are threads (torch/csrc/distributed/c10d/FlightRecorderDetail.hpp, recordWithResetEnabled,
// LibTorch 2.11); it also takes a stack trace per collective. A value that the user set stays.
void turn_off_flight_recorder() {
  static const bool once = [] { return setenv("TORCH_FR_BUFFER_SIZE", "0", /*overwrite=*/0) == 0; }();
  static_cast<void>(once);
}

// Gloo throws exceptions of its own, and some of c10's, whose what() has a stack trace behind it.
std::string reason(const std::exception& e) {
  const auto* of_c10 = dynamic_cast<const c10::Error*>(&e);
  return of_c10 != nullptr ? of_c10->what_without_backtrace() : e.what();
}

c10::intrusive_ptr<c10d::Backend> make_gloo_backend(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t size,
                                                    const std::string& who, const GroupOptions& options) {
  auto gloo = c10d::ProcessGroupGloo::Options::create(options.timeout);
  try {
    gloo->devices.push_back(options.interface.empty()
                                ? c10d::ProcessGroupGloo::createDeviceForHostname(options.address)
                                : c10d::ProcessGroupGloo::createDeviceForInterface(options.interface));
  } catch (const std::exception& e) {
    throw std::system_error(std::make_error_code(std::errc::address_not_available), who + ": " + reason(e));
  }
  try {
    return c10::make_intrusive<c10d::ProcessGroupGloo>(std::move(store), static_cast<int>(rank), static_cast<int>(size),
                                                       std::move(gloo));
  } catch (const std::exception& e) {
    C10_THROW_ERROR(DistBackendError, who + ": a peer is lost while all connect: " + reason(e));
  }
}

}  // namespace

Rendezvous::Rendezvous(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Rendezvous::~Rendezvous() = default;
int Rendezvous::port() const { return impl_->port; }

std::shared_ptr<Rendezvous> Rendezvous::host(int port, int64_t world_size, const std::string& prefix) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(port);
  options.isServer = true;
  options.numWorkers = static_cast<size_t>(world_size);
  options.waitWorkers = false;  // the address must be told before anybody can come
  return tcp_rendezvous("127.0.0.1", options, prefix);
}

std::shared_ptr<Rendezvous> Rendezvous::join(const std::string& address, int64_t world_size,
                                             const std::string& prefix) {
  const size_t colon = address.rfind(':');
  TORCH_CHECK(colon != std::string::npos, "store address '", address, "' is not HOST:PORT");
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(std::stoi(address.substr(colon + 1)));
  options.numWorkers = static_cast<size_t>(world_size);
  options.waitWorkers = false;
  options.timeout = std::chrono::seconds(60);
  return tcp_rendezvous(address.substr(0, colon), options, prefix);
}

std::shared_ptr<Rendezvous> Rendezvous::in_process() {
  auto impl = std::make_unique<Impl>();
  impl->store = c10::make_intrusive<c10d::HashStore>();
  return std::make_shared<Rendezvous>(std::move(impl));
}

ProcessGroup::ProcessGroup(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ProcessGroup::~ProcessGroup() = default;

std::shared_ptr<ProcessGroup> make_group(Rendezvous& rendezvous, const std::string& name, int64_t rank, int64_t size,
                                         const GroupOptions& options) {
  turn_off_flight_recorder();
  // Each back end has keys of its own in the store; no group is named "nccl/...".
  const auto keys_under = [&](const std::string& prefix) {
    return c10::make_intrusive<c10d::PrefixStore>(prefix, rendezvous.impl().store);
  };
  auto impl = std::make_unique<ProcessGroup::Impl>();
  const std::string who = c10::str("group ", name, ", rank ", rank, " of ", size);
  // NCCL first: it finds out by itself that there is no GPU, and meets its peers only at the first collective.
  if (options.cuda) impl->nccl = cuda::make_nccl_backend(keys_under("nccl/" + name), rank, size, options.timeout);
  impl->gloo = make_gloo_backend(keys_under(name), rank, size, who, options);
  return std::make_shared<ProcessGroup>(std::move(impl));
}

}  // namespace qwen3::parallel
