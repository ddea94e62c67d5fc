#include "parallel/fsdp/sharded_model.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <functional>

#include "model/init.h"

namespace qwen3::parallel {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// The model and the layer, as autograd can save them. The model outlives every graph of a step.
void save(AutogradContext* context, ShardedModel* model, size_t layer) {
  context->saved_data["model"] = reinterpret_cast<int64_t>(model);
  context->saved_data["layer"] = static_cast<int64_t>(layer);
}
ShardedModel& model_of(AutogradContext* context) {
  return *reinterpret_cast<ShardedModel*>(context->saved_data["model"].toInt());
}
size_t layer_of(AutogradContext* context) { return static_cast<size_t>(context->saved_data["layer"].toInt()); }

}  // namespace

// Identity at a layer's input. Its backward runs when the gradients of all the layer's weights are there.
struct BeforeLayer : torch::autograd::Function<BeforeLayer> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, ShardedModel* model, size_t layer) {
    save(context, model, layer);
    return x.view_as(x);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    model_of(context).layer_gradients_complete(layer_of(context));
    return {grads[0], {}, {}};
  }
};

// Identity at a layer's output. Its backward runs before any of the layer's.
struct AfterLayer : torch::autograd::Function<AfterLayer> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& y, ShardedModel* model, size_t layer) {
    save(context, model, layer);
    return y.view_as(y);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    model_of(context).gather_for_backward(layer_of(context));
    return {grads[0], {}, {}};
  }
};

ShardedModel::ShardedModel(model::ParameterSet& parameters, const DeviceMesh& mesh, const UnitOptions& options)
    : parameters_(parameters), mesh_(mesh) {
  parameters.zero_buffers(options.state_dtype, mesh.device());
  auto& layers = parameters.units();
  const auto shares_first = [&](const model::Parameter* parameter) {
    return std::any_of(layers.front().parameters.begin(), layers.front().parameters.end(),
                       [&](const model::Parameter* first) { return first->tensor == parameter->tensor; });
  };
  const auto over_own_mesh = [&](const model::Parameter* parameter) {
    return spec::layout_of(parameter->tensor, parameter->shape, mesh.shape()).shard.axis == spec::LayoutAxis::kEfsdp;
  };
  tied_ = std::any_of(layers.back().parameters.begin(), layers.back().parameters.end(), shares_first);
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    std::vector<model::Parameter*> members = layers[layer].parameters;
    units_by_layer_.emplace_back();
    if (tied_ && layer + 1 == layers.size()) {
      units_by_layer_.back() = units_by_layer_.front();
      continue;
    }
    if (tied_ && layer == 0) {
      members.insert(members.end(), layers.back().parameters.begin(), layers.back().parameters.end());
    }
    const auto experts = std::stable_partition(members.begin(), members.end(), std::not_fn(over_own_mesh));
    for (auto& part : {std::vector(members.begin(), experts), std::vector(experts, members.end())}) {
      if (part.empty()) continue;
      units_.emplace_back(part, mesh, options);
      units_by_layer_.back().push_back(&units_.back());
    }
  }
  for (FsdpUnit& unit : units_) {
    for (ShardedTensor& tensor : unit.tensors()) tensors_.push_back(&tensor);
  }
  std::sort(tensors_.begin(), tensors_.end(),
            [](const ShardedTensor* a, const ShardedTensor* b) { return a->name < b->name; });
}

void ShardedModel::initialise(uint64_t seed) {
  for (ShardedTensor* tensor : tensors_) {
    const at::Tensor values = tensor->master.to(at::kCPU);  // the same tensor if it is there
    for (const spec::Transfer& run : spec::transfers(spec::whole_box(tensor->layout.shape), tensor->box)) {
      model::fill_initial(values.narrow(0, run.to, run.count), *tensor->uses.front(), seed, run.from);
    }
    if (!values.is_same(tensor->master)) tensor->master.copy_(values);
  }
  masters_changed();
}

void ShardedModel::prefetch(size_t layer) {
  for (FsdpUnit* unit : units_by_layer_[layer]) unit->start_gather();
}

void ShardedModel::gather(size_t layer) {
  for (FsdpUnit* unit : units_by_layer_[layer]) unit->gather();
}

void ShardedModel::free(size_t layer) {
  for (FsdpUnit* unit : units_by_layer_[layer]) unit->release();
}

void ShardedModel::reduce(size_t layer) {
  free(layer);
  advance_reductions(units_by_layer_[layer]);
}

at::Tensor ShardedModel::around(size_t layer, const at::Tensor& x, const model::Layer& body) {
  gather(layer);
  if (!is_last(layer)) prefetch(layer + 1);
  const bool backward_follows = c10::GradMode::is_enabled();
  at::Tensor y = body(backward_follows && x.requires_grad() ? BeforeLayer::apply(x, this, layer) : x);
  // Backward begins with the last layer and the block before it: freed, they would be gathered again at once.
  const bool used_next = backward_follows && layer + 2 >= units_by_layer_.size();
  if (!used_next && !(tied_ && layer == 0)) free(layer);
  // The embedding's backward needs indices only, not its weight.
  return backward_follows && layer > 0 && !is_last(layer) ? AfterLayer::apply(y, this, layer) : y;
}

void ShardedModel::gather_for_backward(size_t layer) {
  gather(layer);
  if (layer > 1) prefetch(layer - 1);
}

void ShardedModel::layer_gradients_complete(size_t layer) {
  if (tied_ && is_last(layer)) return;  // the embedding's use comes last
  reduce(layer);
}

void ShardedModel::end_of_backward() {
  reduce(0);
  for (FsdpUnit* unit : reducing_[0]) unit->settle();
}

// At most one layer's exchange buffers exist at a time.
void ShardedModel::advance_reductions(std::vector<FsdpUnit*> begun) {
  auto& [exchanging, adding, gathering] = reducing_;
  for (FsdpUnit* unit : gathering) unit->advance_replicas();
  for (FsdpUnit* unit : adding) unit->advance_replicas();
  for (FsdpUnit* unit : exchanging) unit->settle();
  for (FsdpUnit* unit : begun) unit->reduce_microbatch(last_microbatch_);
  gathering = std::move(adding);
  adding = std::move(exchanging);
  exchanging = std::move(begun);
}

void ShardedModel::finish_step() {
  for (auto unit = units_.rbegin(); unit != units_.rend(); ++unit) unit->advance_replicas();  // as they began
  for (FsdpUnit& unit : units_) unit.finish_step();
  sum_over_tp();
}

// Small tensors only (norms, routers), so that one exchange for all of them costs little.
void ShardedModel::sum_over_tp() {
  const MeshAxis& tp = mesh_.axis(spec::Axis::kTp);
  if (tp.size() == 1) return;
  std::vector<ShardedTensor*> summands;
  std::vector<at::Tensor> flat;
  for (ShardedTensor* tensor : tensors_) {
    if (!tensor->layout.partial_over_tp) continue;
    summands.push_back(tensor);
    flat.push_back(tensor->grad);
  }
  if (flat.empty()) return;
  const at::Tensor sum = tree_sum_(all_gather(at::cat(flat), tp));
  int64_t offset = 0;
  for (ShardedTensor* tensor : summands) {
    const int64_t slot = tensor->grad.numel();
    tensor->grad = sum.narrow(0, offset, slot).clone();
    offset += slot;
  }
}

void ShardedModel::masters_changed() {
  for (FsdpUnit& unit : units_) unit.masters_changed();
}

}  // namespace qwen3::parallel
