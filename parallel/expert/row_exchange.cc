#include "parallel/expert/row_exchange.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <numeric>

#include "parallel/collectives.h"
#include "parallel/saved_axis.h"

namespace qwen3::parallel {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor exchange(const at::Tensor& rows, const std::vector<int64_t>& sent, const std::vector<int64_t>& received,
                    const MeshAxis& axis) {
  const int64_t count = std::accumulate(received.begin(), received.end(), int64_t{0});
  const at::Tensor arrived = at::empty({count, rows.size(1)}, rows.options());
  start_all_to_all(arrived, rows.contiguous(), received, sent, axis).wait();
  return arrived;
}

struct ExchangeFunction : torch::autograd::Function<ExchangeFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& rows, const std::vector<int64_t>& sent,
                            const std::vector<int64_t>& received, const MeshAxis& axis) {
    context->saved_data["sent"] = sent;
    context->saved_data["received"] = received;
    save_axis(context, axis);
    return exchange(rows, sent, received, axis);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {exchange(gradients[0], /*sent=*/context->saved_data["received"].toIntVector(),
                     /*received=*/context->saved_data["sent"].toIntVector(), saved_axis(context)),
            at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

class AllToAllExchange : public RowExchange {
 public:
  explicit AllToAllExchange(const MeshAxis& axis) : axis_(axis) {}

  at::Tensor counts(const at::Tensor& counts, at::Device device) const override {
    const at::Tensor sent = counts.contiguous().to(device), received = at::empty_like(sent);
    start_all_to_all(received, sent, axis_).wait();
    return received.cpu();
  }

  at::Tensor rows(const at::Tensor& rows, const std::vector<int64_t>& sent,
                  const std::vector<int64_t>& received) const override {
    return ExchangeFunction::apply(rows, sent, received, axis_);
  }

 private:
  MeshAxis axis_;
};

}  // namespace

std::shared_ptr<const RowExchange> all_to_all_exchange(const MeshAxis& axis) {
  return std::make_shared<AllToAllExchange>(axis);
}

}  // namespace qwen3::parallel
