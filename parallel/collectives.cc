#include "parallel/collectives.h"

#include <ATen/WrapDimUtils.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>

#include <utility>

#include "model/precision.h"
#include "parallel/ordered_sum.h"
#include "parallel/process_group_impl.h"

namespace qwen3::parallel {
namespace {

// Gloo throws a plain std::runtime_error for a lost peer, NCCL a c10::DistBackendError: both leave as the latter.
template <typename Call>
auto guarded(const char* what, const MeshAxis& axis, Call&& call) {
  try {
    return call();
  } catch (const c10::DistError&) {
    throw;
  } catch (const std::exception& e) {
    C10_THROW_ERROR(DistBackendError, c10::str(what, " over axis ", axis.name(), " (", axis.size(),
                                               " ranks): a peer is lost: ", e.what()));
  }
}

Pending pending(const char* what, const MeshAxis& axis, c10::intrusive_ptr<c10d::Work> work,
                std::vector<at::Tensor> alive) {
  return Pending(
      [=, work = std::move(work), alive = std::move(alive)] { guarded(what, axis, [&] { return work->wait(); }); });
}

}  // namespace

Pending start_all_gather(const at::Tensor& output, const at::Tensor& input, const MeshAxis& axis) {
  if (axis.size() == 1) {
    output.view(-1).copy_(input.view(-1));
    return {};
  }
  at::Tensor flat = output.view(-1), mine = input.view(-1);
  auto work = guarded("all_gather", axis, [&] { return axis.group().impl().backend->_allgather_base(flat, mine); });
  return pending("all_gather", axis, std::move(work), {output, input});
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
  auto work =
      guarded("all_to_all", axis, [&] { return axis.group().impl().backend->alltoall_base(out, in, receive, send); });
  return pending("all_to_all", axis, std::move(work), {output, input});
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
  auto work = guarded("gather", axis, [&] { return axis.group().impl().backend->gather(out, in, options); });
  return pending("gather", axis, std::move(work), {output, input});
}

Pending start_broadcast(const at::Tensor& x, int64_t root, const MeshAxis& axis) {
  if (axis.size() == 1) return {};
  std::vector<at::Tensor> tensors{x};
  c10d::BroadcastOptions options;
  options.rootRank = root;
  auto work = guarded("broadcast", axis, [&] { return axis.group().impl().backend->broadcast(tensors, options); });
  return pending("broadcast", axis, std::move(work), {x});
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
