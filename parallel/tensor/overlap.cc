#include "parallel/tensor/overlap.h"

#include <ATen/ATen.h>

#include "parallel/collectives.h"
#include "parallel/saved_axis.h"
#include "parallel/tensor/regions.h"

namespace qwen3::parallel {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// x [B, n, in] . matrix [in, out] as one GEMM.
at::Tensor product(const at::Tensor& x, const at::Tensor& matrix) {
  return at::mm(x.reshape({-1, x.size(-1)}), matrix).view({x.size(0), x.size(1), matrix.size(1)});
}

// All rows at once: gradient [B, S, out], x [B, S, in] -> [out, in].
at::Tensor weight_gradient(const at::Tensor& gradient, const at::Tensor& x) {
  return at::mm(gradient.reshape({-1, gradient.size(-1)}).t(), x.reshape({-1, x.size(-1)}));
}

at::Tensor sequence_piece(const at::Tensor& x, int64_t rank, const MeshAxis& axis) {
  const int64_t length = x.size(kSequenceDim) / axis.size();
  return x.narrow(kSequenceDim, rank * length, length);
}

// An all-gather whose pieces can be used as they come: one broadcast for each source.
class PieceGather {
 public:
  PieceGather(const at::Tensor& mine, const MeshAxis& axis) : axis_(axis) {
    for (int64_t source = 0; source < axis.size(); ++source) {
      pieces_.push_back(source == axis.index() ? mine.contiguous() : at::empty(mine.sizes(), mine.options()));
      pending_.push_back(start_broadcast(pieces_.back(), source, axis));
    }
  }

  // use(source, piece) for every rank of the axis, this rank's own first.
  template <typename Use>
  void for_each(Use&& use) {
    for (int64_t i = 0; i < axis_.size(); ++i) {
      const int64_t source = (axis_.index() + i) % axis_.size();
      if (source != axis_.index()) pending_[source].wait();
      use(source, pieces_[source]);
    }
    pending_[axis_.index()].wait();
  }
  // After for_each: all pieces behind each other.
  at::Tensor whole() const { return at::cat(pieces_, kSequenceDim); }

 private:
  const MeshAxis& axis_;
  std::vector<at::Tensor> pieces_;
  std::vector<Pending> pending_;
};

// A reduce-scatter whose pieces leave as they are made: one gather for each destination.
class PieceReduceScatter {
 public:
  // make(destination) gives the piece for that rank. All ranks make theirs in the same order.
  template <typename Make>
  PieceReduceScatter(const MeshAxis& axis, Make&& make) {
    for (int64_t destination = 0; destination < axis.size(); ++destination) {
      const at::Tensor piece = make(destination);
      if (destination == axis.index()) {
        std::vector<int64_t> shape = piece.sizes().vec();
        shape.insert(shape.begin(), axis.size());
        received_ = at::empty(shape, piece.options());
      }
      pending_.push_back(
          start_gather(destination == axis.index() ? received_ : at::Tensor(), piece, destination, axis));
    }
  }
  // This rank's piece of the sum.
  at::Tensor finish() {
    for (Pending& pending : pending_) pending.wait();
    return sum_of_ranks(received_);
  }

 private:
  at::Tensor received_;  // [size, ...], by source
  std::vector<Pending> pending_;
};

struct GatherLinearsFunction : torch::autograd::Function<GatherLinearsFunction> {
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const at::TensorList& weights,
                               const MeshAxis& axis) {
    const auto size = static_cast<size_t>(axis.size());
    std::vector<std::vector<at::Tensor>> products(weights.size(), std::vector<at::Tensor>(size));
    PieceGather gathered(x, axis);
    gathered.for_each([&](int64_t source, const at::Tensor& piece) {
      for (size_t i = 0; i < weights.size(); ++i) products[i][source] = product(piece, weights[i].t());
    });
    variable_list saved{gathered.whole()};
    saved.insert(saved.end(), weights.begin(), weights.end());
    context->save_for_backward(std::move(saved));
    save_axis(context, axis);
    variable_list y;
    for (const std::vector<at::Tensor>& of_weight : products) y.push_back(at::cat(of_weight, kSequenceDim));
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const MeshAxis axis = saved_axis(context);
    PieceReduceScatter x_gradient(axis, [&](int64_t destination) {
      at::Tensor sum;
      for (size_t i = 0; i < gradients.size(); ++i) {
        const at::Tensor term = product(sequence_piece(gradients[i], destination, axis), saved[1 + i]);
        sum = i == 0 ? term : sum.add_(term);
      }
      return sum;
    });
    variable_list result(1);
    for (const at::Tensor& gradient : gradients) result.push_back(weight_gradient(gradient, saved[0]));
    result[0] = x_gradient.finish();
    result.emplace_back();  // of the axis
    return result;
  }
};

struct LinearReduceScatterFunction : torch::autograd::Function<LinearReduceScatterFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const MeshAxis& axis) {
    context->save_for_backward({x, weight});
    save_axis(context, axis);
    PieceReduceScatter sum(
        axis, [&](int64_t destination) { return product(sequence_piece(x, destination, axis), weight.t()); });
    return sum.finish();
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const MeshAxis axis = saved_axis(context);
    std::vector<at::Tensor> x_gradient(static_cast<size_t>(axis.size()));
    PieceGather gradient(gradients[0], axis);
    gradient.for_each([&](int64_t source, const at::Tensor& piece) { x_gradient[source] = product(piece, weight); });
    return {at::cat(x_gradient, kSequenceDim), weight_gradient(gradient.whole(), x), {}};
  }
};

}  // namespace

std::vector<at::Tensor> gather_linears(const at::Tensor& x, at::TensorList weights, const MeshAxis& axis) {
  return GatherLinearsFunction::apply(x, weights, axis);
}

at::Tensor linear_reduce_scatter(const at::Tensor& x, const at::Tensor& weight, const MeshAxis& axis) {
  return LinearReduceScatterFunction::apply(x, weight, axis);
}

}  // namespace qwen3::parallel
