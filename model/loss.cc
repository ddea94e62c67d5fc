#include "model/loss.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "model/precision.h"

namespace qwen3::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct HeadLossFunction : torch::autograd::Function<HeadLossFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden, const at::Tensor& weight,
                            const at::Tensor& labels, double scale, int64_t chunk_tokens, const ChunkLoss& chunk_loss,
                            bool want_gradient) {
    const auto wide = accumulate_dtype(hidden.scalar_type());
    const int64_t tokens = hidden.size(0);
    at::Tensor total = at::zeros({}, hidden.options().dtype(wide));
    at::Tensor hidden_gradient, weight_gradient;
    if (want_gradient) hidden_gradient = at::empty_like(hidden);
    for (int64_t begin = 0; begin < tokens; begin += chunk_tokens) {
      const int64_t count = std::min(chunk_tokens, tokens - begin);
      const at::Tensor chunk = hidden.narrow(0, begin, count);
      at::Tensor logits = at::mm(chunk, weight.t());
      total.add_(chunk_loss(logits, labels.narrow(0, begin, count), scale, want_gradient));
      if (!want_gradient) continue;
      at::Tensor chunk_gradient = hidden_gradient.narrow(0, begin, count);
      at::mm_out(chunk_gradient, logits, weight);
      if (!weight_gradient.defined()) {
        weight_gradient = at::mm(logits.t(), chunk);
        if (count < tokens) weight_gradient = weight_gradient.to(wide);
      } else if (weight_gradient.scalar_type() == logits.scalar_type()) {
        weight_gradient.addmm_(logits.t(), chunk);
      } else {
        weight_gradient.add_(at::mm(logits.t(), chunk));  // a sum of bfloat16 products is kept in float32
      }
    }
    if (want_gradient) {
      context->saved_data["hidden_gradient"] = hidden_gradient;
      context->saved_data["weight_gradient"] = weight_gradient.to(weight.scalar_type());
    }
    return total.mul_(scale);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto take = [&](const char* name) {  // out of the context, so that .grad becomes this very tensor
      const auto found = context->saved_data.find(name);
      TORCH_CHECK(found != context->saved_data.end(), "head_loss: its backward can run once only");
      at::Tensor taken = std::move(found->second).toTensor();
      context->saved_data.erase(found);
      return taken;
    };
    at::Tensor hidden_gradient = take("hidden_gradient"), weight_gradient = take("weight_gradient");
    if (const double outer = gradients[0].item<double>(); outer != 1) {
      hidden_gradient.mul_(outer);
      weight_gradient.mul_(outer);
    }
    return {hidden_gradient, weight_gradient, {}, {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor cross_entropy_chunk(at::Tensor& logits, const at::Tensor& labels, double scale, bool want_gradient) {
  const auto wide = accumulate_dtype(logits.scalar_type());
  const at::Tensor valid = labels.ne(kIgnoreIndex);
  const at::Tensor target = labels.masked_fill(valid.logical_not(), 0).unsqueeze(1);  // [C, 1]
  at::Tensor log_probabilities = at::log_softmax(logits, -1, wide);
  const at::Tensor loss = log_probabilities.gather(1, target).squeeze(1).neg_().mul_(valid).sum();
  if (want_gradient) {
    at::Tensor gradient = log_probabilities.exp_();
    gradient.scatter_add_(1, target, at::full({1, 1}, -1, gradient.options()).expand_as(target));
    gradient.mul_(valid.to(wide).mul_(scale).unsqueeze(1));
    logits.copy_(gradient);
  }
  return loss;
}

at::Tensor head_loss(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels, double scale,
                     int64_t chunk_tokens, const ChunkLoss& chunk_loss) {
  const bool want_gradient = at::GradMode::is_enabled() && (hidden.requires_grad() || weight.requires_grad());
  return HeadLossFunction::apply(hidden, weight, labels, scale, chunk_tokens, chunk_loss, want_gradient);
}

}  // namespace qwen3::model
