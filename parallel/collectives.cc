#include "parallel/collectives.h"

#include <ATen/WrapDimUtils.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>

#include <string>
#include <utility>

#include "model/precision.h"
#include "parallel/ordered_sum.h"
#include "parallel/process_group_impl.h"
#include "spec/layout.h"

namespace qwen3::parallel {
namespace {

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
  InFlight(const char* operation, const MeshAxis& axis, const at::Tensor& sent)
      : operation_(operation), axis_(axis), started_(Timeline::Clock::now()), bytes_(sent.nbytes()) {
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
  // Gloo throws a plain std::runtime_error for a lost peer, NCCL a c10::DistBackendError: both leave as the latter.
  template <typename Call>
  void guarded(Call&& call) {
    try {
      call();
    } catch (const c10::Error& e) {
      fail(e.what_without_backtrace());
    } catch (const std::exception& e) {
      fail(e.what());
    }
  }

  [[noreturn]] void fail(const char* what) {
    if (Instruments* instruments = axis_.instruments()) instruments->flights.failed(ticket_);
    C10_THROW_ERROR(DistBackendError, c10::str(operation_, " over axis ", axis_.name(), " (", axis_.size(),
                                               " ranks): a peer is lost: ", what, oldest_unfinished(axis_)));
  }

  const char* operation_;
  MeshAxis axis_;
  Timeline::Clock::time_point started_;
  int64_t bytes_;
  FlightRecorder::Ticket ticket_;
  c10::intrusive_ptr<c10d::Work> work_;
  at::Tensor received_, sent_;  // alive while the group uses them
};

// Every collective begins here: it is noted, what it throws becomes one kind of error, and the time of its wait is
// charged to the axis. `start` calls the group, which fills `received` from what this and other ranks sent.
template <typename Start>
Pending launch(const char* operation, const MeshAxis& axis, const at::Tensor& received, const at::Tensor& sent,
               Start&& start) {
  auto flight = std::make_shared<InFlight>(operation, axis, sent);
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
  return launch("all_gather", axis, output, input,
                [&] { return axis.group().impl().backend->_allgather_base(flat, mine); });
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
  at::Tensor out = output, in = input;
  return launch("all_to_all", axis, output, input,
                [&] { return axis.group().impl().backend->alltoall_base(out, in, receive, send); });
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
  return launch("gather", axis, output, input, [&] { return axis.group().impl().backend->gather(out, in, options); });
}

Pending start_broadcast(const at::Tensor& x, int64_t root, const MeshAxis& axis) {
  if (axis.size() == 1) return {};
  std::vector<at::Tensor> tensors{x};
  c10d::BroadcastOptions options;
  options.rootRank = root;
  return launch("broadcast", axis, x, x, [&] { return axis.group().impl().backend->broadcast(tensors, options); });
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
