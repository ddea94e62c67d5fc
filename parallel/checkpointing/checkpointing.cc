#include "parallel/checkpointing/checkpointing.h"

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <memory>
#include <utility>

namespace qwen3::parallel {
namespace {

using model::Results;
using model::Segment;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Autograd sees floating-point tensors only. Others (choices, counts, orders) and undefined ones go around it.
bool is_differentiable(const at::Tensor& tensor) { return tensor.defined() && tensor.is_floating_point(); }

// Takes the differentiable tensors out of `results`, in order, and leaves undefined ones in their places.
variable_list take_differentiable(Results& results, std::vector<size_t>& places) {
  variable_list taken;
  places.clear();
  for (size_t i = 0; i < results.size(); ++i) {
    if (!is_differentiable(results[i])) continue;
    places.push_back(i);
    taken.push_back(std::exchange(results[i], at::Tensor()));
  }
  return taken;
}

Results put_back(Results others, const variable_list& differentiable, const std::vector<size_t>& places) {
  for (size_t i = 0; i < places.size(); ++i) others[places[i]] = differentiable[i];
  return others;
}

// Segments that run as one, and again in backward.
struct Group : torch::CustomClassHolder {
  std::vector<Segment> segments;
  Results other_inputs, other_outputs;
  std::vector<size_t> input_places, output_places;

  // Differentiable tensors in and out; sets other_outputs.
  variable_list run(const variable_list& inputs) {
    Results results = put_back(other_inputs, inputs, input_places);
    for (const Segment& segment : segments) results = segment.run(results);
    variable_list outputs = take_differentiable(results, output_places);
    other_outputs = std::move(results);
    return outputs;
  }
};
using GroupPtr = c10::intrusive_ptr<Group>;

struct RecomputedFunction : torch::autograd::Function<RecomputedFunction> {
  static variable_list forward(AutogradContext* context, at::TensorList inputs, const GroupPtr& group) {
    context->save_for_backward(inputs.vec());
    context->set_materialize_grads(false);
    context->saved_data["group"] = c10::IValue::make_capsule(group);
    return group->run(inputs.vec());  // apply() has switched grad mode off
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const GroupPtr group = take_group(context);
    variable_list inputs = context->get_saved_variables();
    for (size_t i = 0; i < inputs.size(); ++i) {
      inputs[i] = inputs[i].detach().requires_grad_(context->needs_input_grad(i));
    }
    variable_list roots, root_gradients;
    {
      const at::AutoGradMode with_graph(true);
      variable_list outputs = group->run(inputs);
      for (size_t i = 0; i < outputs.size(); ++i) {
        if (!gradients[i].defined() || !outputs[i].requires_grad()) continue;
        roots.push_back(std::move(outputs[i]));
        root_gradients.push_back(std::move(gradients[i]));
      }
    }
    torch::autograd::backward(roots, root_gradients);  // adds to the weights' gradients itself
    variable_list input_gradients;
    for (at::Tensor& input : inputs) input_gradients.push_back(std::exchange(input.mutable_grad(), at::Tensor()));
    input_gradients.emplace_back();  // of the group
    return input_gradients;
  }

 private:
  // Out of the context, so that what the group holds goes with its backward, not with the graph of the whole loss.
  static GroupPtr take_group(AutogradContext* context) {
    const auto found = context->saved_data.find("group");
    TORCH_CHECK(found != context->saved_data.end(), "a recomputed group of segments can run backward once only");
    const GroupPtr group = c10::static_intrusive_pointer_cast<Group>(found->second.toCapsule());
    context->saved_data.erase(found);
    return group;
  }
};

Results run_recomputed(std::vector<Segment> segments, Results inputs) {
  const GroupPtr group = c10::make_intrusive<Group>();
  group->segments = std::move(segments);
  const variable_list differentiable = take_differentiable(inputs, group->input_places);
  group->other_inputs = std::move(inputs);
  const variable_list outputs = RecomputedFunction::apply(at::TensorList(differentiable), group);
  return put_back(std::exchange(group->other_outputs, {}), outputs, group->output_places);
}

at::Tensor run_chain(const spec::KeptResults& kept, const at::Tensor& x, std::vector<Segment> segments) {
  Results results{x};
  std::vector<Segment> group;
  const auto end_group = [&] {
    if (!group.empty()) results = run_recomputed(std::exchange(group, {}), std::move(results));
  };
  for (Segment& segment : segments) {
    if (!kept.contains(segment.name)) {
      group.push_back(std::move(segment));
      continue;
    }
    end_group();
    results = segment.run(results);
  }
  end_group();
  return results[0];
}

}  // namespace

void install_checkpointing(model::Seams& seams, std::vector<spec::KeptResults> kept) {
  seams.chain = [kept = std::move(kept), plain = std::move(seams.chain)](size_t unit, const at::Tensor& x,
                                                                         std::vector<Segment> segments) {
    if (!c10::GradMode::is_enabled() || !x.requires_grad()) return plain(unit, x, std::move(segments));
    return run_chain(kept.at(unit - 1), x, std::move(segments));  // unit 0 is the embedding
  };
}

}  // namespace qwen3::parallel
