#include "model/qwen3.h"

#include <ATen/ATen.h>

#include <utility>

#include "model/attention.h"
#include "model/block.h"
#include "model/loss.h"
#include "model/moe.h"
#include "model/rms_norm.h"
#include "model/rope.h"

namespace qwen3::model {
namespace {

const Parameter& add_embedding(ParameterSet& parameters, const spec::ModelShape& shape) {
  parameters.begin_unit("tok_embeddings");
  return parameters.add("tok_embeddings.weight", {shape.vocab, shape.dim}, Init::kNormal);
}

}  // namespace

Qwen3::Qwen3(const spec::ModelShape& shape, ParameterSet& parameters, Seams seams, const spec::MoeSpec& moe)
    : shape_(shape), moe_(moe), seams_(std::move(seams)), embedding_(&add_embedding(parameters, shape)) {
  for (int64_t i = 0; i < shape.layers; ++i) {
    blocks_.push_back(std::make_unique<Block>(shape_, moe_, i, parameters, seams_));
  }
  parameters.begin_unit("head");
  norm_ = std::make_unique<RmsNorm>(parameters, "norm.weight", shape.dim, shape.norm_eps);
  head_ = &parameters.add("lm_head.weight", {shape.vocab, shape.dim}, Init::kNormal, /*init_std=*/0.02,
                          shape.tied ? "tok_embeddings.weight" : "");
}

Qwen3::~Qwen3() = default;

Microbatch Microbatch::to(at::Device device) const { return {ids.to(device), labels.to(device), positions.to(device)}; }

at::Tensor Qwen3::hidden(const Microbatch& batch, const RoutingContext& routing) const {
  at::Tensor x = seams_.around(0, batch.ids, [&](const at::Tensor& ids) { return seams_.embedding(*embedding_, ids); });
  const BlockContext context{
      .rotary = make_rotary(batch.positions, shape_.head_dim, shape_.rope_theta, x.scalar_type(), shape_.yarn),
      .mask = document_mask(batch.positions, x.scalar_type()),
      .routing = routing,
  };
  for (size_t i = 0; i < blocks_.size(); ++i) {
    x = seams_.around(
        i + 1, x, [&](const at::Tensor& input) { return seams_.chain(i + 1, input, blocks_[i]->segments(context)); });
  }
  return x;
}

at::Tensor Qwen3::loss(const Microbatch& batch, double scale, RoutingRecord* record) const {
  RoutingContext routing;
  if (record != nullptr) {
    record->layers.assign(blocks_.size(), {});
    const auto valid = batch.labels.ne(kIgnoreIndex).sum().item<double>();
    routing = {.auxiliary_weight = moe_.aux_loss_coeff * valid * scale, .record = record};
  }
  return seams_.around(blocks_.size() + 1, hidden(batch, routing), [&](const at::Tensor& x) {
    return seams_.head_loss(norm_->forward(x), *head_, batch.labels, scale);
  });
}

at::Tensor Qwen3::logits(const Microbatch& batch) const {
  return seams_.around(blocks_.size() + 1, hidden(batch, {}),
                       [&](const at::Tensor& x) { return seams_.linears(norm_->forward(x), {head_})[0]; });
}

}  // namespace qwen3::model
