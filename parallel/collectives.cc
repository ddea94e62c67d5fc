#include "parallel/collectives.h"

#include <ATen/WrapDimUtils.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>

#include <new>
#include <numeric>
#include <string>
#include <utility>

#include "model/precision.h"
#include "parallel/ordered_sum.h"
#include "parallel/process_group_impl.h"
#include "spec/layout.h"

namespace qwen3::parallel {
namespace {

// The back end of the axis' group for tensors where x is.
c10d::Backend& backend(const MeshAxis& axis, const at::Tensor& x) {
  const ProcessGroup::Impl& group = axis.group().impl();
  if (!x.is_cuda()) return *group.gloo;
  TORCH_CHECK(group.nccl.defined(), "a tensor on ", x.device(), " cannot travel over axis ", axis.name(),
              ", whose group was made for tensors on CPU");
  return *group.nccl;
}

// Gloo finds a wrong shape only in the middle of the exchange, where it looks as if a peer were lost, and a wrong dtype
// never.
void check_all_to_all(const at::Tensor& output, const at::Tensor& input, const std::vector<int64_t>& receive,
                      const std::vector<int64_t>& send, const MeshAxis& axis) {
  const auto adds_up = [&](const std::vector<int64_t>& counts, const at::Tensor& rows) {
    return static_cast<int64_t>(counts.size()) == axis.size() &&
           std::accumulate(counts.begin(), counts.end(), int64_t{0}) == rows.size(0);
  };
  const bool even = receive.empty() && send.empty();
  const bool fits =
      even ? output.numel() == input.numel() && input.numel() % axis.size() == 0
           : adds_up(receive, output) && adds_up(send, input) && output.sizes().slice(1) == input.sizes().slice(1);
  TORCH_CHECK_VALUE(fits && output.scalar_type() == input.scalar_type(), "all_to_all over axis ", axis.name(), " (",
                    axis.size(), " ranks): ", input.scalar_type(), " ", input.sizes(), " sent as rows ",
                    at::IntArrayRef(send), " does not fit ", output.scalar_type(), " ", output.sizes(),
                    " received as rows ", at::IntArrayRef(receive));
}

// What a hang is most likely about, for the message of an error.
std::string oldest_unfinished(const MeshAxis& axis) {
  if (axis.instruments() == nullptr) return "";
  const auto flight = axis.instruments()->flights.oldest_unfinished();
  if (!flight) return "";
  return "; oldest unfinished collective: " + describe(*flight, FlightRecorder::Clock::now());
}

// A collective from its call to the end of its wait, as the rank's instruments see it.
class InFlight {
 public:
  InFlight(const char* operation, const MeshAxis& axis, const at::Tensor& sent, bool gives)
      : operation_(operation), axis_(axis), started_(Timeline::Clock::now()), bytes_(gives ? sent.nbytes() : 0) {
    if (Instruments* instruments = axis_.instruments()) {
      ticket_ = instruments->flights.start(axis_.number(), operation_, sent.scalar_type(), bytes_);
    }
  }
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;
  ~InFlight() {
    if (Instruments* instruments = axis_.instruments()) instruments->flights.forget(ticket_);
  }

  template <typename Start>
  void start(Start&& start, at::Tensor received, at::Tensor sent) {
    received_ = std::move(received);
    sent_ = std::move(sent);
    guarded([&] { work_ = start(); });
    if (Instruments* instruments = axis_.instruments()) instruments->flights.in_flight(ticket_, work_.get());
  }

  void wait() {
    Instruments* const instruments = axis_.instruments();
    if (instruments == nullptr) return guarded([&] { work_->wait(); });
    Timeline& timeline = instruments->timeline;
    const size_t account = Timeline::kFirstAxis + axis_.number();
    {
      const Timeline::Charge charge(timeline, account, operation_, ticket_.sequence);
      guarded([&] { work_->wait(); });
    }
    instruments->flights.done(ticket_);
    if (instruments->spoil) instruments->spoil(axis_.name(), operation_, received_);
    timeline.add({Timeline::Span::Kind::kCollective, account, operation_, ticket_.sequence, bytes_, started_,
                  Timeline::Clock::now()});
  }

 private:
  // For a lost peer Gloo throws a std::runtime_error or c10::Error, NCCL a c10::DistBackendError: all leave as the
  // last. This rank's own errors leave as they are, or it would be taken for a victim and its message dropped: lack of
  // memory, and what a back end finds wrong with its arguments, a c10::Error before the work has started.
  template <typename Call>
  void guarded(Call&& call) {
    try {
      call();
    } catch (const std::bad_alloc&) {
      give_up();
      throw;
    } catch (const c10::OutOfMemoryError&) {
      give_up();
      throw;
    } catch (const c10::DistError& e) {
      fail(e.what_without_backtrace());
    } catch (const c10::Error& e) {
      if (work_.defined()) fail(e.what_without_backtrace());
      give_up();
      throw;
    } catch (const std::exception& e) {
      fail(e.what());
    }
  }

  void give_up() {
    if (Instruments* instruments = axis_.instruments()) instruments->flights.failed(ticket_);
  }

  [[noreturn]] void fail(const char* what) {
    give_up();
    C10_THROW_ERROR(DistBackendError, c10::str(operation_, " over axis ", axis_.name(), " (", axis_.size(),
                                               " ranks): a peer is lost: ", what, oldest_unfinished(axis_)));
  }

  const char* operation_;
  MeshAxis axis_;
  Timeline::Clock::time_point started_;
  int64_t bytes_;
  FlightRecorder::Ticket ticket_;
  c10::intrusive_ptr<c10d::Work> work_;  // null until the back end has taken the call
  at::Tensor received_, sent_;           // alive while the group uses them
};

// Every collective begins here: it is noted, the loss of a peer becomes one kind of error, and the time of its wait is
// charged to the axis. `start` calls the group, which fills `received` from what this and other ranks sent. A rank that
// `gives` nothing sends nothing of `sent` to others.
template <typename Start>
Pending launch(const char* operation, const MeshAxis& axis, const at::Tensor& received, const at::Tensor& sent,
               Start&& start, bool gives = true) {
  auto flight = std::make_shared<InFlight>(operation, axis, sent, gives);
  flight->start(std::forward<Start>(start), received, sent);
  return Pending([flight = std::move(flight)] { flight->wait(); });
}

}  // namespace

Pending start_all_gather(const at::Tensor& output, const at::Tensor& input, const MeshAxis& axis) {
  if (axis.size() == 1) {
    output.view(-1).copy_(input.view(-1));
    return {};
  }
  at::Tensor flat = output.view(-1), mine = input.view(-1);
  return launch("all_gather", axis, output, input, [&] { return backend(axis, input)._allgather_base(flat, mine); });
}

Pending start_all_to_all(const at::Tensor& output, const at::Tensor& input, const MeshAxis& axis) {
  return start_all_to_all(output, input, /*receive=*/{}, /*send=*/{}, axis);
}

Pending start_all_to_all(const at::Tensor& output, const at::Tensor& input, std::vector<int64_t> receive,
                         std::vector<int64_t> send, const MeshAxis& axis) {
  if (axis.size() == 1) {
    output.copy_(input);
    return {};
  }
  check_all_to_all(output, input, receive, send, axis);
  at::Tensor out = output, in = input;
  return launch("all_to_all", axis, output, input,
                [&] { return backend(axis, input).alltoall_base(out, in, receive, send); });
}

Pending start_gather(const at::Tensor& output, const at::Tensor& input, int64_t root, const MeshAxis& axis) {
  if (axis.size() == 1) {
    output[0].copy_(input);
    return {};
  }
  std::vector<at::Tensor> in{input};
  std::vector<std::vector<at::Tensor>> out;
  if (axis.index() == root) out.push_back(output.unbind(0));
  c10d::GatherOptions options;
  options.rootRank = root;
  return launch(
      "gather", axis, output, input, [&] { return backend(axis, input).gather(out, in, options); },
      /*gives=*/axis.index() != root);
}

Pending start_broadcast(const at::Tensor& x, int64_t root, const MeshAxis& axis) {
  if (axis.size() == 1) return {};
  std::vector<at::Tensor> tensors{x};
  c10d::BroadcastOptions options;
  options.rootRank = root;
  return launch(
      "broadcast", axis, x, x, [&] { return backend(axis, x).broadcast(tensors, options); },
      /*gives=*/axis.index() == root);
}

at::Tensor all_gather(const at::Tensor& x, const MeshAxis& axis) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.insert(shape.begin(), axis.size());
  at::Tensor all = at::empty(shape, x.options());
  start_all_gather(all, x.contiguous(), axis).wait();
  return all;
}

at::Tensor all_gather(const at::Tensor& x, int64_t dim, const MeshAxis& axis) {
  if (axis.size() == 1) return x;
  dim = at::maybe_wrap_dim(dim, x.dim());
  return all_gather(x, axis).movedim(0, dim).flatten(dim, dim + 1);
}

at::Tensor all_gather_uneven(const at::Tensor& piece, int64_t dim, int64_t total, const MeshAxis& axis) {
  dim = at::maybe_wrap_dim(dim, piece.dim());
  const int64_t missing = spec::shard_rows(total, axis.size(), 0).size() - piece.size(dim);
  at::Tensor padded = piece;
  if (missing > 0) {
    std::vector<int64_t> pad(static_cast<size_t>(2 * (piece.dim() - dim)), 0);  // two for each dim, the last dim first
    pad.back() = missing;
    padded = at::constant_pad_nd(piece, pad);
  }
  return all_gather(padded, dim, axis).narrow(dim, 0, total);
}

at::Tensor sum_of_ranks(const at::Tensor& rows) {
  const at::ScalarType dtype = rows.scalar_type();
  if (at::isIntegralType(dtype, /*includeBool=*/false)) return rows.sum(0, /*keepdim=*/false, dtype);
  const at::Tensor sum = tree_sum_(rows.to(model::accumulate_dtype(dtype)));
  return sum.to(dtype, /*non_blocking=*/false, /*copy=*/true);  // not a view that keeps all rows alive
}

at::Tensor reduce_scatter_sum(const at::Tensor& x, int64_t dim, const MeshAxis& axis) {
  if (axis.size() == 1) return x;
  TORCH_CHECK_VALUE(x.size(dim) % axis.size() == 0, "reduce_scatter over axis ", axis.name(), " cuts dim ", dim,
                    " of size ", x.size(dim), " into ", axis.size(), " unequal pieces");
  const at::Tensor pieces = x.unflatten(dim, {axis.size(), x.size(dim) / axis.size()})
                                .movedim(at::maybe_wrap_dim(dim, x.dim()), 0)
                                .contiguous();
  const at::Tensor received = at::empty_like(pieces);
  start_all_to_all(received.view({axis.size(), -1}), pieces.view({axis.size(), -1}), axis).wait();
  return sum_of_ranks(received);
}

at::Tensor all_reduce_sum(const at::Tensor& x, const MeshAxis& axis) {
  if (axis.size() == 1) return x;
  const int64_t missing = (axis.size() - x.numel() % axis.size()) % axis.size();  // to equal pieces
  const at::Tensor flat = missing == 0 ? x.reshape(-1) : at::constant_pad_nd(x.reshape(-1), {0, missing});
  const at::Tensor sum = all_gather(reduce_scatter_sum(flat, /*dim=*/0, axis), axis);
  return sum.view(-1).narrow(0, 0, x.numel()).view(x.sizes());
}

std::vector<int64_t> all_reduce_sum(const std::vector<int64_t>& values, const MeshAxis& axis) {
  const at::Tensor all = all_gather(at::tensor(values, at::kLong), axis);
  std::vector<int64_t> sum(values.size(), 0);
  const auto rows = all.accessor<int64_t, 2>();
  for (int64_t r = 0; r < axis.size(); ++r) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += rows[r][static_cast<int64_t>(i)];
  }
  return sum;
}

}  // namespace qwen3::parallel
