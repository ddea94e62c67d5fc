#include "parallel/traced_layers.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

namespace qwen3::parallel {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Identity at a unit's output; its backward is the first of the unit's.
struct BackwardBegins : torch::autograd::Function<BackwardBegins> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& y, Timeline* timeline, int64_t unit) {
    context->saved_data["timeline"] = reinterpret_cast<int64_t>(timeline);
    context->saved_data["unit"] = unit;
    return y.view_as(y);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    reinterpret_cast<Timeline*>(context->saved_data["timeline"].toInt())
        ->begin_backward(context->saved_data["unit"].toInt());
    return {grads[0], {}, {}};
  }
};

}  // namespace

model::LayerDecorator traced(model::LayerDecorator around, Timeline& timeline) {
  return [around = std::move(around), &timeline](size_t unit, const at::Tensor& x, const model::Layer& body) {
    if (!timeline.keeps_spans()) return around(unit, x, body);
    const auto number = static_cast<int64_t>(unit);
    Timeline::Span span{Timeline::Span::Kind::kForward, Timeline::kCompute, {}, number, 0, Timeline::Clock::now(), {}};
    at::Tensor y = around(unit, x, body);
    span.end = Timeline::Clock::now();
    timeline.add(span);
    return c10::GradMode::is_enabled() && y.requires_grad() ? BackwardBegins::apply(y, &timeline, number) : y;
  };
}

}  // namespace qwen3::parallel
