#include "parallel/fsdp/sharded_model.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

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
    : parameters_(parameters), shard_(mesh.axis(spec::Axis::kDpShard)) {
  parameters.zero_buffers(options.state_dtype);
  const MeshAxis& replicate = mesh.axis(spec::Axis::kDpReplicate);
  auto& layers = parameters.units();
  const auto shares_first = [&](const model::Parameter* parameter) {
    return std::any_of(layers.front().parameters.begin(), layers.front().parameters.end(),
                       [&](const model::Parameter* first) { return first->tensor == parameter->tensor; });
  };
  tied_ = std::any_of(layers.back().parameters.begin(), layers.back().parameters.end(), shares_first);
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    std::vector<model::Parameter*> members = layers[layer].parameters;
    if (tied_ && layer + 1 == layers.size()) {
      unit_index_.push_back(0);
      continue;
    }
    if (tied_ && layer == 0) {
      members.insert(members.end(), layers.back().parameters.begin(), layers.back().parameters.end());
    }
    unit_index_.push_back(units_.size());
    units_.emplace_back(std::move(members), shard_, replicate, options);
  }
  for (FsdpUnit& unit : units_) {
    for (ShardedTensor& tensor : unit.tensors()) tensors_.push_back(&tensor);
  }
  std::sort(tensors_.begin(), tensors_.end(),
            [](const ShardedTensor* a, const ShardedTensor* b) { return a->name < b->name; });
}

void ShardedModel::initialise(uint64_t seed) {
  for (ShardedTensor* tensor : tensors_) {
    if (tensor->numel() == 0) continue;
    model::fill_initial(tensor->master.narrow(0, 0, tensor->numel()), *tensor->uses.front(), seed,
                        tensor->rows.begin * tensor->row_size);
  }
  masters_changed();
}

at::Tensor ShardedModel::around(size_t layer, const at::Tensor& x, const model::Layer& body) {
  unit_of(layer).gather();
  if (layer + 1 < unit_index_.size()) unit_of(layer + 1).start_gather();
  const bool backward_follows = c10::GradMode::is_enabled();
  at::Tensor y = body(backward_follows && x.requires_grad() ? BeforeLayer::apply(x, this, layer) : x);
  if (stays_gathered(layer)) {
    if (!backward_follows && layer + 1 == unit_index_.size()) unit_of(layer).release();
    return y;
  }
  unit_of(layer).release();
  // The embedding's backward needs indices only, not its weight.
  return backward_follows && layer > 0 ? AfterLayer::apply(y, this, layer) : y;
}

void ShardedModel::gather_for_backward(size_t layer) {
  unit_of(layer).gather();
  if (layer > 1) unit_of(layer - 1).start_gather();
}

void ShardedModel::layer_gradients_complete(size_t layer) {
  if (tied_ && layer + 1 == unit_index_.size()) return;  // the embedding's use comes last
  FsdpUnit& unit = unit_of(layer);
  unit.release();
  unit.reduce_microbatch();
  if (last_microbatch_) unit.start_finish_step();
}

void ShardedModel::end_of_backward() {
  units_.front().release();
  units_.front().reduce_microbatch();
}

void ShardedModel::finish_step() {
  for (FsdpUnit& unit : units_) unit.finish_step();
}

void ShardedModel::masters_changed() {
  for (FsdpUnit& unit : units_) unit.masters_changed();
}

model::Seams sharded_seams(ShardedModel& sharded) {
  model::Seams seams = model::plain_seams();
  seams.around = [&sharded](size_t layer, const at::Tensor& x, const model::Layer& body) {
    return sharded.around(layer, x, body);
  };
  return seams;
}

}  // namespace qwen3::parallel
