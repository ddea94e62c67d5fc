#include "worker/rank/optimizer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

namespace qwen3::rank {

bool matches(std::string_view pattern, std::string_view name) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == name;
  if (name.substr(0, star) != pattern.substr(0, star)) return false;
  const std::string_view rest = pattern.substr(star + 1);
  for (size_t i = star; i <= name.size(); ++i) {
    if (matches(rest, name.substr(i))) return true;
  }
  return false;
}

AdamW::AdamW(const spec::OptimizerSpec& spec, parallel::ShardedModel& model) : spec_(spec) {
  groups_ = {{spec.weight_decay, {}}, {0.0, {}}};
  for (parallel::ShardedTensor* tensor : model.tensors()) {
    const bool decays = std::none_of(spec.no_decay.begin(), spec.no_decay.end(),
                                     [&](const std::string& pattern) { return matches(pattern, tensor->name); });
    groups_[decays ? 0 : 1].tensors.push_back(tensor);
  }
}

void AdamW::step(int64_t step, double lr, double grad_scale) {
  c10::NoGradGuard no_grad;
  for (const Group& group : groups_) {
    if (group.tensors.empty()) continue;
    const auto on_device = group.tensors.front()->master.options().dtype(at::kFloat);
    const at::Tensor count = at::full({}, static_cast<double>(step), on_device);
    std::vector<at::Tensor> masters, grads, exp_avgs, exp_avg_sqs;
    for (parallel::ShardedTensor* tensor : group.tensors) {
      if (grad_scale != 1.0) tensor->grad.mul_(grad_scale);
      masters.push_back(tensor->master);
      grads.push_back(std::move(tensor->grad));
      exp_avgs.push_back(tensor->exp_avg);
      exp_avg_sqs.push_back(tensor->exp_avg_sq);
    }
    const std::vector<at::Tensor> steps(masters.size(), count);
    at::_fused_adamw_(masters, grads, exp_avgs, exp_avg_sqs, /*max_exp_avg_sqs=*/{}, steps, lr, spec_.beta1,
                      spec_.beta2, group.weight_decay, spec_.eps, /*amsgrad=*/false, /*maximize=*/false);
  }
}

}  // namespace qwen3::rank
