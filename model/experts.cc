#include "model/experts.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <bit>
#include <vector>

namespace qwen3::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Grouped GEMMs want rows whose byte length is a multiple of 16, and at least one of them.
bool is_grouped(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& counts) {
  return rows.scalar_type() == at::kBFloat16 && counts.dim() == 1 && rows.size(0) > 0 && weight.size(1) % 8 == 0 &&
         weight.size(2) % 8 == 0;
}

// Where the rows of each expert of each group lie.
class Runs {
 public:
  explicit Runs(const at::Tensor& counts)
      : groups_(counts.dim() == 2 ? counts.size(0) : 1), experts_(counts.size(-1)), counts_(counts.contiguous()) {
    const int64_t* count = counts_.const_data_ptr<int64_t>();
    int64_t first = 0;
    for (int64_t i = 0; i < counts_.numel(); ++i) {
      first_.push_back(first);
      first += count[i];
    }
  }
  int64_t groups() const { return groups_; }
  int64_t experts() const { return experts_; }
  int64_t count(int64_t group, int64_t expert) const {
    return counts_.const_data_ptr<int64_t>()[group * experts_ + expert];
  }
  at::Tensor of(const at::Tensor& rows, int64_t group, int64_t expert) const {
    return rows.narrow(0, first_[static_cast<size_t>(group * experts_ + expert)], count(group, expert));
  }

 private:
  int64_t groups_, experts_;
  at::Tensor counts_;  // [groups, experts], or [experts]
  std::vector<int64_t> first_;
};

// Ends of the experts' runs of rows, as _grouped_mm wants them.
at::Tensor ends(const at::Tensor& counts, const at::Tensor& like) {
  return counts.cumsum(0, at::kInt).to(like.device());
}

// rows_e . weight[e], weight [E, in, out].
at::Tensor multiply(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& counts, bool grouped) {
  if (grouped) return at::_grouped_mm(rows, weight, ends(counts, rows));
  at::Tensor out = at::empty({rows.size(0), weight.size(2)}, rows.options());
  const Runs runs(counts);
  for (int64_t g = 0; g < runs.groups(); ++g) {
    for (int64_t e = 0; e < runs.experts(); ++e) {
      if (runs.count(g, e) == 0) continue;
      at::Tensor of_expert = runs.of(out, g, e);
      at::mm_out(of_expert, runs.of(rows, g, e), weight[e]);
    }
  }
  return out;
}

// out [out, in] = the weight gradient of one expert, added over groups [begin, end). A group without rows has the
// gradient zero, which is added as well: x + 0 is not x where x is -0. Returns whether any group has rows; `out` is
// left alone when none has.
bool sum_over_groups(at::Tensor out, const at::Tensor& gradient, const at::Tensor& rows, const Runs& runs,
                     int64_t expert, int64_t begin, int64_t end) {
  if (end - begin == 1) {
    if (runs.count(begin, expert) == 0) return false;
    at::mm_out(out, runs.of(gradient, begin, expert).t(), runs.of(rows, begin, expert));
    return true;
  }
  const int64_t middle = begin + static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(end - begin - 1)));
  const bool left = sum_over_groups(out, gradient, rows, runs, expert, begin, middle);
  const at::Tensor other = left ? at::empty_like(out) : out;
  const bool right = sum_over_groups(other, gradient, rows, runs, expert, middle, end);
  if (left && right) {
    out.add_(other);
  } else if (left || right) {
    out.add_(0);
  }
  return left || right;
}

// [E, out, in]
at::Tensor weight_gradient_of(const at::Tensor& gradient, const at::Tensor& rows, const at::Tensor& weight,
                              const at::Tensor& counts, bool grouped) {
  at::Tensor weight_gradient =
      grouped ? at::_grouped_mm(gradient.t(), rows, ends(counts, rows)) : at::empty_like(weight);
  const Runs runs(counts);
  for (int64_t e = 0; e < runs.experts(); ++e) {
    const bool has_rows =
        grouped ? runs.count(0, e) > 0 : sum_over_groups(weight_gradient[e], gradient, rows, runs, e, 0, runs.groups());
    if (!has_rows) weight_gradient[e].zero_();
  }
  return weight_gradient;
}

struct GroupedLinearFunction : torch::autograd::Function<GroupedLinearFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& rows, const at::Tensor& weight,
                            const at::Tensor& counts) {
    context->save_for_backward({rows, weight, counts});
    return multiply(rows, weight.transpose(1, 2), counts, is_grouped(rows, weight, counts));
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &rows = saved[0], &weight = saved[1], &counts = saved[2];
    const at::Tensor gradient = gradients[0].contiguous();
    const bool grouped = is_grouped(rows, weight, counts);
    at::Tensor rows_gradient, weight_gradient;
    if (context->needs_input_grad(0)) rows_gradient = multiply(gradient, weight, counts, grouped);
    if (context->needs_input_grad(1)) weight_gradient = weight_gradient_of(gradient, rows, weight, counts, grouped);
    return {rows_gradient, weight_gradient, at::Tensor()};
  }
};

}  // namespace

at::Tensor grouped_linear(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& counts) {
  return GroupedLinearFunction::apply(rows, weight, counts);
}

}  // namespace qwen3::model
