#include "parallel/tensor/vocabulary.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "model/embedding.h"
#include "model/precision.h"
#include "parallel/collectives.h"
#include "parallel/ordered_sum.h"

namespace qwen3::parallel {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// This rank's columns [..., n] -> all [..., V].
at::Tensor gather_columns(const at::Tensor& columns, const VocabularyPiece& piece, const MeshAxis& tp) {
  return all_gather_uneven(columns, /*dim=*/-1, piece.vocab, tp);
}

struct GatherColumnsFunction : torch::autograd::Function<GatherColumnsFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& columns, const VocabularyPiece& piece,
                            const MeshAxis& tp) {
    context->saved_data["begin"] = piece.begin;
    context->saved_data["count"] = columns.size(-1);
    return gather_columns(columns, piece, tp).contiguous();
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {
        gradients[0].narrow(-1, context->saved_data["begin"].toInt(), context->saved_data["count"].toInt()), {}, {}};
  }
};

// Where each id's row lies here, and whether it does. Rows of other ranks are named 0.
struct Lookup {
  Lookup(const at::Tensor& ids, int64_t begin, int64_t count)
      : elsewhere(ids.lt(begin).logical_or_(ids.ge(begin + count))), row((ids - begin).masked_fill_(elsewhere, 0)) {}
  at::Tensor elsewhere, row;
};

// As cross_entropy_chunk, of logits whose other columns are on the other ranks: logits [C, n].
at::Tensor cross_entropy_of_pieces(at::Tensor& logits, const at::Tensor& labels, double scale, bool want_gradient,
                                   const VocabularyPiece& piece, const MeshAxis& tp) {
  const auto wide = model::accumulate_dtype(logits.scalar_type());
  const at::Tensor valid = labels.ne(model::kIgnoreIndex);
  const Lookup label(labels, piece.begin, logits.size(1));
  const at::Tensor column = label.row.unsqueeze(1);  // [C, 1]
  const at::Tensor wide_logits = logits.to(wide);
  const at::Tensor here_max = wide_logits.amax(1);
  const at::Tensor here_target = wide_logits.gather(1, column).squeeze(1).masked_fill_(label.elsewhere, 0);
  at::Tensor exponentials = (wide_logits - here_max.unsqueeze(1)).exp_();

  const at::Tensor all = all_gather(at::stack({here_max, exponentials.sum(1), here_target}), tp);  // [tp, 3, C]
  const at::Tensor maxima = all.select(1, 0), max = maxima.amax(0);
  const at::Tensor to_max = (maxima - max).exp_();  // [tp, C]: turns a rank's exponentials into those of all
  const at::Tensor sum = tree_sum_((all.select(1, 1) * to_max).contiguous());
  const at::Tensor target = tree_sum_(all.select(1, 2).contiguous());
  const at::Tensor loss = (sum.log() + max - target).masked_fill_(valid.logical_not(), 0).sum();
  if (want_gradient) {
    const at::Tensor factor = valid.to(wide).mul_(scale);
    exponentials.mul_((to_max.select(0, tp.index()) / sum * factor).unsqueeze(1));
    exponentials.scatter_add_(1, column, factor.neg().masked_fill_(label.elsewhere, 0).unsqueeze(1));
    logits.copy_(exponentials);
  }
  return loss;
}

// The same by the logits of all columns.
at::Tensor cross_entropy_of_gathered(at::Tensor& logits, const at::Tensor& labels, double scale, bool want_gradient,
                                     const VocabularyPiece& piece, const MeshAxis& tp) {
  at::Tensor whole = gather_columns(logits, piece, tp);
  const at::Tensor loss = model::cross_entropy_chunk(whole, labels, scale, want_gradient);
  if (want_gradient) logits.copy_(whole.narrow(1, piece.begin, logits.size(1)));
  return loss;
}

}  // namespace

VocabularyPiece::VocabularyPiece(int64_t vocab, const MeshAxis& tp)
    : vocab(vocab), rows((vocab + tp.size() - 1) / tp.size()), begin(std::min(vocab, tp.index() * rows)) {}

at::Tensor embed_piece(const model::Parameter& weight, const at::Tensor& ids, const Border& border) {
  const VocabularyPiece piece(weight.shape[0], border.tp);
  const Lookup lookup(ids, piece.begin, weight.weight.size(0));
  const at::Tensor partial = model::embed(weight.weight, lookup.row).masked_fill(lookup.elsewhere.unsqueeze(-1), 0);
  return border.leave(partial, kSequenceDim);
}

at::Tensor head_loss_piece(const at::Tensor& hidden, const model::Parameter& weight, const at::Tensor& labels,
                           double scale, int64_t chunk_tokens, bool loss_parallel, const Border& border) {
  const VocabularyPiece piece(weight.shape[0], border.tp);
  const auto cross_entropy = loss_parallel ? cross_entropy_of_pieces : cross_entropy_of_gathered;
  const model::ChunkLoss of_chunk = [&](at::Tensor& logits, const at::Tensor& chunk_labels, double chunk_scale,
                                        bool want_gradient) {
    return cross_entropy(logits, chunk_labels, chunk_scale, want_gradient, piece, border.tp);
  };
  return model::head_loss(border.enter(hidden, kSequenceDim).flatten(0, 1), weight.weight, labels.flatten(), scale,
                          chunk_tokens, of_chunk);
}

at::Tensor logits_of_pieces(const at::Tensor& hidden, const model::Parameter& weight, const Border& border) {
  const VocabularyPiece piece(weight.shape[0], border.tp);
  const at::Tensor columns = at::linear(border.enter(hidden, kSequenceDim), weight.weight);
  return border.tp.size() == 1 ? columns : GatherColumnsFunction::apply(columns, piece, border.tp);
}

}  // namespace qwen3::parallel
