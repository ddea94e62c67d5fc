#include "parallel/expert/expert_parallel.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <utility>
#include <vector>

#include "model/dispatch.h"
#include "parallel/expert/row_order.h"
#include "parallel/expert/token_shard.h"

namespace qwen3::parallel {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor index(const std::vector<int64_t>& rows, at::Device device) { return at::tensor(rows, at::kLong).to(device); }

// Row i of the result is row order[i]. The gradient is put back by the inverse: nothing is added.
struct PermuteRowsFunction : torch::autograd::Function<PermuteRowsFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& rows, const at::Tensor& order,
                            const at::Tensor& inverse) {
    context->save_for_backward({inverse});
    return rows.index_select(0, order);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {gradients[0].index_select(0, context->get_saved_variables()[0]), at::Tensor(), at::Tensor()};
  }
};

// The experts of this rank and the way to those of the others. What lies "by source" is ordered by the rank it comes
// from, and of one rank by expert.
class Dispatcher {
 public:
  Dispatcher(const MeshAxis& ep, const ExpertParallelOptions& options)
      : ranks_(ep.size()),
        ordered_(options.ordered),
        exchange_(options.exchange ? options.exchange : all_to_all_exchange(ep)) {
    if (options.same_tokens != nullptr && options.same_tokens->size() > 1) same_tokens_ = *options.same_tokens;
  }

  model::Dispatched dispatch(const at::Tensor& x, const at::Tensor& chosen, int64_t experts) const {
    TORCH_CHECK_VALUE(experts % ranks_ == 0, experts, " experts cannot be divided among ", ranks_, " ranks");
    // By expert, so by the rank that holds it.
    const model::Dispatched mine = model::local_dispatch(share(x), share(chosen), experts);
    const at::Tensor sent = mine.counts.view({ranks_, experts / ranks_});
    const at::Tensor received = exchange_->counts(sent, x.device());
    const at::Tensor rows = exchange_->rows(mine.rows, per_rank(sent), per_rank(received));
    const at::Tensor route = at::stack({sent, received});
    if (ordered_) return {rows, received, mine.order, route};
    const auto [by_expert, by_source] = permutations(received, x.device());
    return {PermuteRowsFunction::apply(rows, by_expert, by_source), received.sum(0), mine.order, route};
  }

  at::Tensor combine(const at::Tensor& outputs, const at::Tensor& gates, const at::Tensor& order,
                     const at::Tensor& route) const {
    const at::Tensor sent = route[0], received = route[1];
    at::Tensor by_rank = outputs;
    if (!ordered_) {
      const auto [by_expert, by_source] = permutations(received, outputs.device());
      by_rank = PermuteRowsFunction::apply(outputs, by_source, by_expert);
    }
    const at::Tensor rows = exchange_->rows(by_rank, /*sent=*/per_rank(received), /*received=*/per_rank(sent));
    const at::Tensor y = model::local_combine(rows, share(gates), order);
    return same_tokens_ ? join_tokens(y, gates.size(0), *same_tokens_) : y;
  }

 private:
  at::Tensor share(const at::Tensor& of_tokens) const {
    return same_tokens_ ? shard_tokens(of_tokens, *same_tokens_) : of_tokens;
  }

  // counts [ranks, experts here] -> rows for, or from, each rank.
  static std::vector<int64_t> per_rank(const at::Tensor& counts) {
    const at::Tensor sums = counts.sum(1);
    const auto* first = sums.const_data_ptr<int64_t>();
    return {first, first + sums.numel()};
  }

  // Of the rows received, from the order by source to the order by expert, and back.
  static std::pair<at::Tensor, at::Tensor> permutations(const at::Tensor& received, at::Device device) {
    const at::Tensor counts = received.contiguous();
    const std::vector<int64_t> by_expert =
        order_by_expert({counts.const_data_ptr<int64_t>(), static_cast<size_t>(counts.numel())}, counts.size(1));
    return {index(by_expert, device), index(inverse_permutation(by_expert), device)};
  }

  int64_t ranks_;
  bool ordered_;
  std::shared_ptr<const RowExchange> exchange_;
  std::optional<MeshAxis> same_tokens_;
};

}  // namespace

void install_expert_parallel(model::Seams& seams, const MeshAxis& ep, const ExpertParallelOptions& options) {
  const auto dispatcher = std::make_shared<const Dispatcher>(ep, options);
  seams.dispatch = [dispatcher](const at::Tensor& x, const at::Tensor& chosen, int64_t experts) {
    return dispatcher->dispatch(x, chosen, experts);
  };
  seams.combine = [dispatcher](const at::Tensor& outputs, const at::Tensor& gates, const at::Tensor& order,
                               const at::Tensor& route) { return dispatcher->combine(outputs, gates, order, route); };
}

}  // namespace qwen3::parallel
