#include "tests/plans/plan.h"

#include <algorithm>
#include <bitset>
#include <limits>
#include <map>

#include "spec/rules.h"

namespace qwen3::testing {
namespace {

using spec::Precision;

const char* word(Plan::Model model) {
  switch (model) {
    case Plan::Model::kDense:
      return "dense";
    case Plan::Model::kTied:
      return "tied";
    case Plan::Model::kMoe:
      return "moe";
    case Plan::Model::kFewExperts:
      return "few_experts";
  }
  return "";
}

const char* word(Precision precision) {
  switch (precision) {
    case Precision::kFloat32:
      return "float32";
    case Precision::kBfloat16:
      return "bfloat16";
    case Precision::kFloat64:
      return "float64";
  }
  return "";
}

// Choices that are not worth a run of their own, or cannot be compared.
bool worth_a_run(const Plan& plan) {
  const bool moe = plan.model == Plan::Model::kMoe;
  if (plan.shard == 1 && (!plan.reshard || plan.reduce_once)) return false;  // nothing is gathered or scattered
  if (plan.tp == 1 && (!plan.sequence_parallel || plan.async_tp || !plan.loss_parallel)) return false;
  if (unusual_choices(plan) > 2) return false;
  // float32 rounding decides between experts of nearly the same score: such runs part, and neither is wrong.
  const bool rounds = plan.precision != Precision::kFloat64 && (plan.tp > 1 || (plan.ep > 1 && !plan.ordered));
  if (plan.balanced != (moe && rounds)) return false;
  return plan.ep == 1 || moe;
}

bool legal(const Plan& plan) { return spec::check_rules(run_of(plan)).empty(); }

// The plan's choices, as words.
std::vector<std::string> choices(const Plan& plan) {
  return {word(plan.model),
          "replicate" + std::to_string(plan.replicate),
          "shard" + std::to_string(plan.shard),
          "tp" + std::to_string(plan.tp),
          "ep" + std::to_string(plan.ep),
          plan.microbatches == plan.replicate * plan.shard ? "one" : "accumulated",
          "recompute" + std::to_string(static_cast<int>(plan.recompute)),
          plan.reshard ? "reshard" : "keep",
          plan.reduce_once ? "once" : "every",
          plan.sequence_parallel ? "sequence" : "whole",
          plan.async_tp ? "async" : "plain",
          plan.loss_parallel ? "loss" : "logits",
          std::string(word(plan.precision)) + (plan.ordered ? "ordered" : "")};
}

// Pairs of choices, as a set: bit (a, b) of two words' numbers.
constexpr size_t kMostWords = 64;
using Pairs = std::bitset<kMostWords * kMostWords>;

Pairs pairs(const Plan& plan, std::map<std::string, size_t>& numbers) {
  std::vector<size_t> words;
  for (const std::string& word : choices(plan)) {
    words.push_back(numbers.try_emplace(word, numbers.size()).first->second);
  }
  Pairs pairs;
  for (size_t i = 0; i < words.size(); ++i) {
    for (size_t j = i + 1; j < words.size(); ++j) pairs.set(words[i] * kMostWords + words[j]);  // throws if too many
  }
  return pairs;
}

// Order without pattern, the same on every machine (FNV-1a, 64 bits).
uint64_t scrambled(const std::string& text) {
  uint64_t hash = 14695981039346656037u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash ^ (hash >> 29);
}

}  // namespace

int unusual_choices(const Plan& plan) {
  return !plan.reshard + plan.reduce_once + !plan.sequence_parallel + plan.async_tp + !plan.loss_parallel;
}

std::string name(const Plan& plan) {
  std::string name = word(plan.model);
  const auto degree = [&](const char* axis, int64_t size) {
    if (size > 1) name += std::string("_") + axis + std::to_string(size);
  };
  degree("replicate", plan.replicate);
  degree("shard", plan.shard);
  degree("tp", plan.tp);
  degree("ep", plan.ep);
  degree("m", plan.microbatches);
  if (plan.balanced) name += "_balanced";
  if (plan.recompute == Plan::Recompute::kSelective) name += "_selective";
  if (plan.recompute == Plan::Recompute::kFull) name += "_recompute";
  if (!plan.reshard) name += "_keep";
  if (plan.reduce_once) name += "_once";
  if (!plan.sequence_parallel) name += "_nosp";
  if (plan.async_tp) name += "_async";
  if (!plan.loss_parallel) name += "_logits";
  return name + "_" + word(plan.precision) + (plan.ordered ? "_ordered" : "");
}

void PrintTo(const Plan& plan, std::ostream* out) { *out << name(plan); }

spec::RunSpec run_of(const Plan& plan) {
  spec::RunSpec run;
  // Sizes that no degree but tp divides: 101 rows of the embedding, 3 blocks, 4 experts for up to 8 ranks.
  run.model = {.flavor = "tiny",
               .dim = 48,
               .layers = 3,
               .heads = 8,
               .kv_heads = 4,
               .head_dim = 8,
               .ffn_hidden = 80,
               .vocab = 101,
               .max_seq_len = 64,
               .tied = plan.model == Plan::Model::kTied};
  const bool few = plan.model == Plan::Model::kFewExperts;
  if (few || plan.model == Plan::Model::kMoe) {
    run.model.ffn_hidden = 0;
    run.model.experts = few ? 3 : 4;
    run.model.experts_per_token = 2;
    run.model.expert_hidden = few ? 20 : 32;
    using Scope = spec::MoeSpec::AuxLossScope;  // over the global batch the counts of a step are part of the state
    run.moe = {.load_balance_coeff = 0.02,      // large enough to change choices within a few steps
               .aux_loss_coeff = 0.1,
               .aux_loss_scope = plan.ordered ? Scope::kMicrobatch : Scope::kGlobalBatch,
               .force_load_balance = plan.balanced};
  }
  run.optimizer.lr = 1e-3;
  run.optimizer.eps = 1e-6;  // else the sign of a gradient that is rounding noise alone moves a weight by lr
  run.lr_schedule = {.warmup_steps = 2, .total_steps = 10, .decay_steps = 4};
  run.data = {.local_batch_size = 1, .seq_len = 24};
  run.validation.data = run.data;
  run.global_batch_size = plan.microbatches;
  run.microbatches_per_rank = plan.microbatches / (plan.replicate * plan.shard);
  run.mesh.degrees[static_cast<int>(spec::Axis::kDpReplicate)] = plan.replicate;
  run.mesh.degrees[static_cast<int>(spec::Axis::kDpShard)] = plan.shard;
  run.mesh.degrees[static_cast<int>(spec::Axis::kTp)] = plan.tp;
  run.mesh.ep = plan.ep;
  run.steps = 10;
  run.seed = 7;
  run.precision = plan.precision;
  run.ordered = plan.ordered;
  run.reshard_after_forward = plan.reshard;
  run.reduce_once = plan.reduce_once;
  run.sequence_parallel = plan.sequence_parallel;
  run.async_tensor_parallel = plan.async_tp;
  run.loss_parallel = plan.loss_parallel;
  using Mode = spec::ActivationCheckpoint::Mode;
  if (plan.recompute == Plan::Recompute::kSelective) {
    run.activation_checkpoint = {.mode = Mode::kSelective, .every_nth_block = {}, .kept = {"attention"}};
  } else if (plan.recompute == Plan::Recompute::kFull) {
    run.activation_checkpoint.mode = Mode::kFull;
  }
  return run;
}

Plan single_process(const Plan& plan) {
  return {.model = plan.model,
          .microbatches = plan.microbatches,
          .balanced = plan.balanced,
          .precision = plan.precision,
          .ordered = plan.ordered};
}

// Measured, with room: docs/adr/0018. Counts of routed tokens are whole numbers: they are equal unless rounding may
// have chosen another expert.
Bound bound_of(const Plan& plan) {
  constexpr double kAny = std::numeric_limits<double>::infinity();
  switch (plan.precision) {
    case Precision::kFloat64:
      return {.loss = 1e-11, .grad_norm = 1e-11, .gradient = 1e-11, .parameter = 1e-11};
    case Precision::kFloat32:
      if (plan.ordered && plan.tp == 1) return {};
      return {.loss = 1e-6, .grad_norm = 1e-6, .gradient = 5e-6, .parameter = 1e-5, .buffer = kAny};
    case Precision::kBfloat16:
      // A weight whose float32 master moved by a rounding may be cast to the next bfloat16, 2^-8 away.
      return {.loss = 5e-3, .grad_norm = 5e-2, .gradient = 5e-2, .parameter = 5e-2, .buffer = kAny};
  }
  return {};
}

std::vector<Plan> every_plan() {
  std::vector<Plan> plans{Plan()};
  const auto with_each = [&plans](auto Plan::*choice, auto values) {
    std::vector<Plan> more;
    for (const Plan& plan : plans) {
      for (const auto value : values) (more.emplace_back(plan).*choice) = value;
    }
    plans = std::move(more);
  };
  using Degrees = std::vector<int64_t>;
  with_each(&Plan::model, std::vector{Plan::Model::kDense, Plan::Model::kTied, Plan::Model::kMoe});
  with_each(&Plan::replicate, Degrees{1, 2, 3, 4, 8});
  with_each(&Plan::shard, Degrees{1, 2, 3, 4, 8});
  with_each(&Plan::tp, Degrees{1, 2, 4});
  with_each(&Plan::ep, Degrees{1, 2, 4});
  std::erase_if(plans, [](const Plan& plan) { return plan.world() > 8 || plan.shard * plan.tp % plan.ep != 0; });
  with_each(&Plan::microbatches, Degrees{1, 8});
  for (Plan& plan : plans) {  // one on each rank, or so many that the ranks accumulate
    const int64_t batches = plan.replicate * plan.shard;
    plan.microbatches = plan.microbatches == 1 ? batches : batches * std::max<int64_t>(2, 8 / batches);
  }
  with_each(&Plan::recompute, std::vector{Plan::Recompute::kNone, Plan::Recompute::kSelective, Plan::Recompute::kFull});
  with_each(&Plan::reshard, std::vector{true, false});
  with_each(&Plan::reduce_once, std::vector{false, true});
  with_each(&Plan::sequence_parallel, std::vector{true, false});
  with_each(&Plan::async_tp, std::vector{false, true});
  with_each(&Plan::loss_parallel, std::vector{true, false});
  with_each(&Plan::balanced, std::vector{false, true});
  with_each(&Plan::precision, std::vector{Precision::kFloat32, Precision::kFloat64, Precision::kBfloat16});
  with_each(&Plan::ordered, std::vector{true, false});
  std::erase_if(plans,
                [](const Plan& plan) { return plan == single_process(plan) || !worth_a_run(plan) || !legal(plan); });
  return plans;
}

std::vector<Plan> covering(const std::vector<Plan>& plans, size_t least) {
  struct Candidate {
    uint64_t order;
    const Plan* plan;
    Pairs pairs;
  };
  std::map<std::string, size_t> numbers;
  std::vector<Candidate> rest;
  for (const Plan& plan : plans) rest.push_back({scrambled(name(plan)), &plan, pairs(plan, numbers)});
  std::sort(rest.begin(), rest.end(), [](const Candidate& a, const Candidate& b) { return a.order < b.order; });
  std::vector<Plan> chosen;
  Pairs covered;
  const auto open = [&](const Candidate& candidate) { return (candidate.pairs & ~covered).count(); };
  while (!rest.empty()) {
    const auto best = std::max_element(rest.begin(), rest.end(), [&](const Candidate& a, const Candidate& b) {
      return open(a) < open(b);  // of equals max_element takes the first
    });
    if (open(*best) == 0 && chosen.size() >= least) break;
    chosen.push_back(*best->plan);
    covered |= best->pairs;
    rest.erase(best);
  }
  return chosen;
}

}  // namespace qwen3::testing
