#include "parallel/expert/token_shard.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "parallel/collectives.h"
#include "spec/layout.h"

namespace qwen3::parallel {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor cut(const at::Tensor& x, const MeshAxis& axis) {
  const spec::RowRange rows = spec::shard_rows(x.size(0), axis.size(), axis.index());
  return x.narrow(0, rows.begin, rows.size());
}

// Shards are sent padded to the size of the first, which only the last ones lack: so the rows lie where they belong.
at::Tensor join(const at::Tensor& shard, int64_t tokens, const MeshAxis& axis) {
  const int64_t largest = spec::shard_rows(tokens, axis.size(), 0).size();
  std::vector<int64_t> shape = shard.sizes().vec();
  shape[0] = largest;
  at::Tensor padded = shard;
  if (shard.size(0) < largest) {
    padded = at::zeros(shape, shard.options());
    padded.narrow(0, 0, shard.size(0)).copy_(shard);
  }
  return all_gather(padded, axis).flatten(0, 1).narrow(0, 0, tokens);
}

void save(AutogradContext* context, const MeshAxis* axis, int64_t tokens) {
  context->saved_data["axis"] = reinterpret_cast<int64_t>(axis);
  context->saved_data["tokens"] = tokens;
}
const MeshAxis& axis_of(AutogradContext* context) {
  return *reinterpret_cast<const MeshAxis*>(context->saved_data["axis"].toInt());
}

struct ShardFunction : torch::autograd::Function<ShardFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const MeshAxis* axis) {
    save(context, axis, x.size(0));
    return cut(x, *axis);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {join(gradients[0], context->saved_data["tokens"].toInt(), axis_of(context)), at::Tensor()};
  }
};

struct JoinFunction : torch::autograd::Function<JoinFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& shard, int64_t tokens, const MeshAxis* axis) {
    save(context, axis, tokens);
    return join(shard, tokens, *axis);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {cut(gradients[0], axis_of(context)), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor shard_tokens(const at::Tensor& x, const MeshAxis& axis) { return ShardFunction::apply(x, &axis); }

at::Tensor join_tokens(const at::Tensor& shard, int64_t tokens, const MeshAxis& axis) {
  return JoinFunction::apply(shard, tokens, &axis);
}

}  // namespace qwen3::parallel
