#include "model/seams.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/linear.h>
#include <c10/util/accumulate.h>

#include <utility>

#include "model/attention.h"
#include "model/dispatch.h"
#include "model/embedding.h"
#include "model/loss.h"
#include "model/parameter.h"
#include "spec/estimate.h"

namespace qwen3::model {
namespace {

std::vector<at::Tensor> plain_linears(const at::Tensor& x, std::initializer_list<const Parameter*> weights) {
  std::vector<at::Tensor> y;
  for (const Parameter* weight : weights) y.push_back(at::linear(x, weight->weight));
  return y;
}

at::Tensor plain_head_loss(const at::Tensor& hidden, const Parameter& weight, const at::Tensor& labels, double scale) {
  return head_loss(hidden.flatten(0, 1), weight.weight, labels.flatten(), scale,
                   spec::head_chunk_tokens(weight.shape[0]));
}

at::Tensor all_tokens(const at::Tensor& x) {
  const at::IntArrayRef shape = x.sizes().slice(0, static_cast<size_t>(x.dim() - 1));
  return at::arange(c10::multiply_integers(shape), x.options().dtype(at::kLong)).view(shape);
}

at::Tensor plain_chain(size_t, const at::Tensor& x, std::vector<Segment> segments) {
  Results results{x};
  for (const Segment& segment : segments) results = segment.run(results);
  return results[0];
}

}  // namespace

Seams plain_seams() {
  return {
      .linears = plain_linears,
      .embedding = [](const Parameter& weight, const at::Tensor& ids) { return embed(weight.weight, ids); },
      .head_loss = plain_head_loss,
      .inner_attention = plain_attention,
      .dispatch = local_dispatch,
      .combine = local_combine,
      .token_sum = [](const at::Tensor& sum) { return sum; },
      .token_numbers = all_tokens,
      .chain = plain_chain,
      .around = [](size_t, const at::Tensor& x, const Layer& body) { return body(x); },
  };
}

}  // namespace qwen3::model
