#include "tests/plans/train_plan.h"

#include <ATen/ATen.h>

#include <cmath>
#include <memory>
#include <mutex>

#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"
#include "worker/rank/trainer.h"

namespace qwen3::testing {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

// Copies this rank's pieces of a flat tensor of each parameter into the whole ones. False: another rank keeps the same
// piece, with other bits.
bool collect(const parallel::ShardedModel& model, const std::string& prefix,
             at::Tensor parallel::ShardedTensor::*member, Tensors& whole) {
  bool agree = true;
  for (const parallel::ShardedTensor* tensor : model.tensors()) {
    const at::Tensor& flat = tensor->*member;
    at::Tensor& into = whole[prefix + tensor->name];
    if (!into.defined()) into = at::full(tensor->layout.shape, NAN, flat.options());  // what no rank brings is seen
    if (tensor->box.empty()) continue;
    at::Tensor piece = into;
    for (size_t dim = 0; dim < tensor->box.shape.size(); ++dim) {
      piece = piece.narrow(static_cast<int64_t>(dim), tensor->box.begin[dim], tensor->box.shape[dim]);
    }
    const at::Tensor mine = tensor->box_of(flat);
    if (piece.isnan().all().item<bool>()) {
      piece.copy_(mine);
    } else {
      agree &= at::equal(piece, mine);
    }
  }
  return agree;
}

// The same of buffers, which are whole on every rank.
bool collect_buffers(const parallel::ShardedModel& model, Tensors& whole) {
  bool agree = true;
  for (const model::Buffer& buffer : model.buffers()) {
    const auto [known, is_new] = whole.try_emplace(buffer.name, buffer.value.clone());
    agree &= is_new || at::equal(known->second, buffer.value);
  }
  return agree;
}

double relative(double value, double wanted) {
  return value == wanted ? 0 : std::abs(value - wanted) / std::abs(wanted);
}

double relative(const at::Tensor& value, const at::Tensor& wanted) {
  if (at::equal(value, wanted)) return 0;
  const double size = wanted.to(at::kDouble).norm().item<double>();
  return (value.to(at::kDouble) - wanted.to(at::kDouble)).norm().item<double>() / size;  // NaN where a piece is missing
}

}  // namespace

std::vector<Trained> train_plans(const std::vector<Plan>& plans, const Fault& fault) {
  std::vector<Trained> trained(plans.size());
  std::mutex mutex;  // guards `trained`
  run_ranks(run_of(plans.at(0)).mesh, [&](const parallel::DeviceMesh& mesh) {
    if (fault) fault(mesh);
    for (size_t i = 0; i < plans.size(); ++i) {
      const spec::RunSpec run = run_of(plans[i]);
      const auto text = std::make_shared<SyntheticText>(/*sequences=*/50, run.data.seq_len, run.model.vocab);
      rank::Trainer trainer(run, mesh, {text, nullptr});
      Trained& result = trained[i];
      const auto gather = [&](const char* prefix, at::Tensor parallel::ShardedTensor::*member, Tensors& whole) {
        const std::lock_guard lock(mutex);
        result.replicas_agree &= collect(trainer.model(), prefix, member, whole);
      };
      for (int64_t step = 1; step <= kSteps; ++step) {
        const rank::StepMetrics metrics = trainer.step(step, {}).metrics;
        if (step == 1) gather("", &parallel::ShardedTensor::exp_avg, result.first_moments);
        if (mesh.rank() != 0) continue;
        const std::lock_guard lock(mutex);
        result.losses.push_back(metrics.loss);
        result.norms.push_back(metrics.grad_norm);
        if (metrics.experts) result.auxiliary_losses.push_back(metrics.experts->auxiliary_loss);
      }
      gather("model.", &parallel::ShardedTensor::master, result.state);
      gather("exp_avg.", &parallel::ShardedTensor::exp_avg, result.state);
      gather("exp_avg_sq.", &parallel::ShardedTensor::exp_avg_sq, result.state);
      const std::lock_guard lock(mutex);
      result.replicas_agree &= collect_buffers(trainer.model(), result.buffers);
    }
  });
  return trained;
}

std::vector<std::string> differences(const Trained& trained, const Trained& single, const Bound& bound) {
  std::vector<std::string> found;
  const auto check = [&](const std::string& what, double distance, double most) {
    if (distance <= most) return;  // false for NaN
    found.push_back(what + " is off by " + std::to_string(distance * 1e9) + "e-9, allowed " +
                    std::to_string(most * 1e9) + "e-9");
  };
  const auto check_steps = [&](const std::string& what, const std::vector<double>& values,
                               const std::vector<double>& wanted, double most) {
    if (values.size() != wanted.size()) found.push_back(what + ": another number of steps");
    for (size_t i = 0; i < std::min(values.size(), wanted.size()); ++i) {
      check(what + " of step " + std::to_string(i + 1), relative(values[i], wanted[i]), most);
    }
  };
  check_steps("the loss", trained.losses, single.losses, bound.loss);
  check_steps("the auxiliary loss", trained.auxiliary_losses, single.auxiliary_losses, bound.loss);
  check_steps("the gradient norm", trained.norms, single.norms, bound.grad_norm);
  const auto check_tensors = [&](const std::string& what, const Tensors& tensors, const Tensors& wanted,
                                 const std::string& prefix, double most) {
    for (const auto& [name, tensor] : wanted) {
      if (!name.starts_with(prefix)) continue;
      if (!tensors.contains(name)) {
        found.push_back(what + name + " is missing");
      } else {
        check(what + name, relative(tensors.at(name), tensor), most);
      }
    }
  };
  check_tensors("the gradient of step 1 of ", trained.first_moments, single.first_moments, "", bound.gradient);
  check_tensors("after the last step ", trained.state, single.state, "model.", bound.parameter);
  if (bound.parameter == 0) check_tensors("after the last step ", trained.state, single.state, "exp_avg", 0);
  check_tensors("after the last step ", trained.buffers, single.buffers, "", bound.buffer);
  if (!trained.replicas_agree) found.push_back("the replicas differ");
  return found;
}

const Trained& single_run(const Plan& plan) {
  static std::map<std::string, Trained> known;
  const Plan single = single_process(plan);
  auto run = known.find(name(single));
  if (run == known.end()) run = known.emplace(name(single), train_plans({single})[0]).first;
  return run->second;
}

}  // namespace qwen3::testing
