#include "parallel/collectives.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>

#include <utility>

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

at::Tensor all_gather(const at::Tensor& x, const MeshAxis& axis) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.insert(shape.begin(), axis.size());
  at::Tensor all = at::empty(shape, x.options());
  start_all_gather(all, x.contiguous(), axis).wait();
  return all;
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
