#include "parallel/tensor/regions.h"

#include "parallel/collectives.h"
#include "parallel/saved_axis.h"

namespace qwen3::parallel {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct GatherFunction : torch::autograd::Function<GatherFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& piece, int64_t dim, const MeshAxis& axis) {
    save_axis(context, axis);
    context->saved_data["dim"] = dim;
    return all_gather(piece, dim, axis);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {reduce_scatter_sum(gradients[0], context->saved_data["dim"].toInt(), saved_axis(context)), {}, {}};
  }
};

struct ReduceScatterFunction : torch::autograd::Function<ReduceScatterFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& partial, int64_t dim, const MeshAxis& axis) {
    save_axis(context, axis);
    context->saved_data["dim"] = dim;
    return reduce_scatter_sum(partial, dim, axis);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {all_gather(gradients[0], context->saved_data["dim"].toInt(), saved_axis(context)), {}, {}};
  }
};

struct ReplicateFunction : torch::autograd::Function<ReplicateFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& whole, const MeshAxis& axis) {
    save_axis(context, axis);
    return whole.view_as(whole);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {all_reduce_sum(gradients[0], saved_axis(context)), {}};
  }
};

struct ReduceFunction : torch::autograd::Function<ReduceFunction> {
  static at::Tensor forward(AutogradContext*, const at::Tensor& partial, const MeshAxis& axis) {
    return all_reduce_sum(partial, axis);
  }
  static variable_list backward(AutogradContext*, variable_list gradients) { return {gradients[0], {}}; }
};

}  // namespace

at::Tensor gather(const at::Tensor& piece, int64_t dim, const MeshAxis& axis) {
  return axis.size() == 1 ? piece : GatherFunction::apply(piece, dim, axis);
}

at::Tensor reduce_scatter(const at::Tensor& partial, int64_t dim, const MeshAxis& axis) {
  return axis.size() == 1 ? partial : ReduceScatterFunction::apply(partial, dim, axis);
}

at::Tensor replicate(const at::Tensor& whole, const MeshAxis& axis) {
  return axis.size() == 1 ? whole : ReplicateFunction::apply(whole, axis);
}

at::Tensor reduce(const at::Tensor& partial, const MeshAxis& axis) {
  return axis.size() == 1 ? partial : ReduceFunction::apply(partial, axis);
}

}  // namespace qwen3::parallel
