#include "parallel/tensor/tensor_parallel.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/linear.h>
#include <c10/util/Exception.h>

#include "model/parameter.h"
#include "parallel/tensor/experts.h"
#include "parallel/tensor/overlap.h"
#include "parallel/tensor/regions.h"
#include "parallel/tensor/vocabulary.h"
#include "spec/estimate.h"
#include "spec/layout.h"

namespace qwen3::parallel {
namespace {

// How linear layers are cut. Weights are [out, in]: a column-parallel one gives some of the outputs of all inputs, a
// row-parallel one takes some of the inputs and gives a partial sum of all outputs.
enum class Cut { kColumns, kRows, kLogits };

Cut cut_of(const model::Parameter& weight) {
  if (weight.name == "lm_head.weight") return Cut::kLogits;
  const spec::Layout layout = spec::layout_of(weight.name, weight.shape, {});
  if (layout.model_cuts.empty() || weight.shape.size() != 2) {
    C10_THROW_ERROR(ValueError, "tensor parallelism knows no linear layer " + weight.name);
  }
  return layout.model_cuts[0].dim == 0 ? Cut::kColumns : Cut::kRows;
}

std::vector<at::Tensor> column_linears(const at::Tensor& x, const std::vector<at::Tensor>& weights,
                                       const Border& border, bool async) {
  if (async) return gather_linears(x, weights, border.tp);
  const at::Tensor whole = border.enter(x, kSequenceDim);  // once for all weights
  std::vector<at::Tensor> y;
  for (const at::Tensor& weight : weights) y.push_back(at::linear(whole, weight));
  return y;
}

at::Tensor row_linear(const at::Tensor& x, const at::Tensor& weight, const Border& border, bool async) {
  if (async) return linear_reduce_scatter(x, weight, border.tp);
  return border.leave(at::linear(x, weight), kSequenceDim);
}

}  // namespace

void install_tensor_parallel(model::Seams& seams, const MeshAxis& tp, const TensorParallelOptions& options) {
  TORCH_CHECK_VALUE(options.sequence_parallel || !options.async,
                    "async tensor parallelism needs sequence parallelism: without it nothing is gathered");
  const Border border{tp, options.sequence_parallel};
  const bool async = options.async && tp.size() > 1;
  seams.linears = [=](const at::Tensor& x, std::initializer_list<const model::Parameter*> weights) {
    std::vector<at::Tensor> pieces;
    for (const model::Parameter* weight : weights) pieces.push_back(weight->weight);
    const model::Parameter& first = **weights.begin();
    switch (cut_of(first)) {
      case Cut::kColumns:
        return column_linears(x, pieces, border, async);
      case Cut::kRows:
        return std::vector<at::Tensor>{row_linear(x, pieces[0], border, async)};
      case Cut::kLogits:
        return std::vector<at::Tensor>{logits_of_pieces(x, first, border)};
    }
    return std::vector<at::Tensor>{};
  };
  seams.embedding = [=](const model::Parameter& weight, const at::Tensor& ids) {
    return embed_piece(weight, ids, border);
  };
  seams.head_loss = [=](const at::Tensor& hidden, const model::Parameter& weight, const at::Tensor& labels,
                        double scale) {
    const int64_t chunk_tokens = spec::head_chunk_tokens(weight.shape[0]);
    return head_loss_piece(hidden, weight, labels, scale, chunk_tokens, options.loss_parallel, border);
  };
  seams.dispatch = [=](const at::Tensor& x, const at::Tensor& chosen, int64_t experts) {
    return dispatch_to_pieces(x, chosen, experts, border);
  };
  seams.combine = [=](const at::Tensor& outputs, const at::Tensor& gates, const at::Tensor& order, const at::Tensor&) {
    return combine_pieces(outputs, gates, order, border);
  };
  if (options.sequence_parallel) {
    seams.token_sum = [=](const at::Tensor& sum) { return reduce(sum, tp); };
    seams.token_numbers = [=](const at::Tensor& x) {
      const int64_t piece = x.size(kSequenceDim);
      const at::Tensor all = at::arange(x.size(0) * piece * tp.size(), x.options().dtype(at::kLong));
      return all.view({x.size(0), -1}).narrow(kSequenceDim, tp.index() * piece, piece);
    };
  }
}

}  // namespace qwen3::parallel
