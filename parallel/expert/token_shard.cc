#include "parallel/expert/token_shard.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "parallel/collectives.h"
#include "parallel/saved_axis.h"
#include "spec/layout.h"

namespace qwen3::parallel {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kTokens = 0;  // the dim that is cut

at::Tensor cut(const at::Tensor& x, const MeshAxis& axis) {
  const spec::RowRange rows = spec::shard_rows(x.size(kTokens), axis.size(), axis.index());
  return x.narrow(kTokens, rows.begin, rows.size());
}

struct ShardFunction : torch::autograd::Function<ShardFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const MeshAxis& axis) {
    save_axis(context, axis);
    context->saved_data["tokens"] = x.size(0);
    return cut(x, axis);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {all_gather_uneven(gradients[0], kTokens, context->saved_data["tokens"].toInt(), saved_axis(context)), {}};
  }
};

struct JoinFunction : torch::autograd::Function<JoinFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& shard, int64_t tokens, const MeshAxis& axis) {
    save_axis(context, axis);
    return all_gather_uneven(shard, kTokens, tokens, axis);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {cut(gradients[0], saved_axis(context)), {}, {}};
  }
};

}  // namespace

at::Tensor shard_tokens(const at::Tensor& x, const MeshAxis& axis) { return ShardFunction::apply(x, axis); }

at::Tensor join_tokens(const at::Tensor& shard, int64_t tokens, const MeshAxis& axis) {
  return JoinFunction::apply(shard, tokens, axis);
}

}  // namespace qwen3::parallel
