#include "spec/activation_checkpoint.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

namespace qwen3::spec {
namespace {

constexpr std::array<std::string_view, 5> kDense = {"qkv", "attention", "attention_residual", "gate_up",
                                                    "mlp_residual"};
constexpr std::array<std::string_view, 7> kMoe = {"qkv",      "attention",      "attention_residual", "router",
                                                  "dispatch", "expert_gate_up", "expert_residual"};
constexpr std::array<std::string_view, 2> kOp = {"attention", "gate_up"};

KeptResults all_results(const ModelShape& model) {
  const auto names = block_results(model);
  return {names.begin(), names.end()};
}

}  // namespace

std::span<const std::string_view> block_results(const ModelShape& model) {
  return model.experts > 0 ? std::span<const std::string_view>(kMoe) : std::span<const std::string_view>(kDense);
}

std::span<const std::string_view> op_results() { return kOp; }

std::vector<KeptResults> kept_results(const RunSpec& run) {
  const ActivationCheckpoint& spec = run.activation_checkpoint;
  const KeptResults all = all_results(run.model);
  std::vector<KeptResults> kept(static_cast<size_t>(run.model.layers));
  switch (spec.mode) {
    case ActivationCheckpoint::Mode::kNone:
      std::fill(kept.begin(), kept.end(), all);
      break;
    case ActivationCheckpoint::Mode::kFull:
      break;
    case ActivationCheckpoint::Mode::kSelective:
      for (size_t layer = 0; layer < kept.size(); ++layer) {
        if (!spec.every_nth_block) {
          kept[layer] = {spec.kept.begin(), spec.kept.end()};
        } else if ((layer + 1) % static_cast<size_t>(*spec.every_nth_block) != 0) {
          kept[layer] = all;
        }
      }
      break;
    case ActivationCheckpoint::Mode::kMemoryBudget:
      std::fill(kept.begin(), kept.end(), BlockCost(run).within(spec.memory_budget));
      break;
  }
  return kept;
}

BlockCost::BlockCost(const RunSpec& run) {
  const ModelShape& m = run.model;
  const int64_t tokens = run.data.local_batch_size * run.data.seq_len;
  const int64_t element = run.precision == Precision::kBfloat16 ? 2 : run.precision == Precision::kFloat32 ? 4 : 8;
  const int64_t wide = std::max<int64_t>(element, 4);  // of statistics, scores and gates
  const int64_t index = 8;
  const int64_t q = m.heads * m.head_dim, kv = m.kv_heads * m.head_dim;

  const auto make = [&](int64_t elements, int64_t bytes) -> Tensors {
    tensor_bytes_.push_back(elements * bytes);
    return Tensors{1} << (tensor_bytes_.size() - 1);
  };
  const auto rows = [&](int64_t width, int64_t bytes) { return make(tokens * width, bytes); };
  // `product` and `other` count FLOPs a token, `gradients` elements a token.
  const auto add = [&](std::string_view name, int64_t product, int64_t other, Tensors takes, Tensors saves,
                       int64_t gradients) {
    segments_.push_back({name, static_cast<double>(tokens) * static_cast<double>(product + other), takes, saves,
                         tokens * gradients * element});
  };

  const Tensors x = rows(m.dim, element), x_rms = rows(1, wide), x_normed = rows(m.dim, element);
  const Tensors projected = rows(q + kv, element), head_rms = rows(m.heads + m.kv_heads, wide);
  const Tensors q_k_v = rows(q + 2 * kv, element);
  add("qkv", 2 * m.dim * (q + 2 * kv), 4 * m.dim + 4 * (q + kv), x, x | x_rms | x_normed | projected | head_rms,
      m.dim + 2 * (q + kv));

  const Tensors attention = rows(q, element), log_sum_exp = rows(m.heads, wide);
  add("attention", 2 * q * run.data.seq_len, 4 * m.heads * run.data.seq_len, x | q_k_v, q_k_v | attention | log_sum_exp,
      m.dim + 2 * (q + kv));
  add("attention_residual", 2 * q * m.dim, 3 * m.dim, x | attention, attention, m.dim + q);

  const Tensors h = rows(m.dim, element), h_rms = rows(1, wide), h_normed = rows(m.dim, element);
  if (m.experts == 0) {
    const Tensors gate_up = rows(2 * m.ffn_hidden, element), swiglu = rows(m.ffn_hidden, element);
    add("gate_up", 4 * m.dim * m.ffn_hidden, 4 * m.dim, h, h | h_rms | h_normed, 3 * m.dim + 2 * m.ffn_hidden);
    add("mlp_residual", 2 * m.ffn_hidden * m.dim, 3 * m.ffn_hidden + 3 * m.dim, h | gate_up, gate_up | swiglu,
        m.dim + 2 * m.ffn_hidden);
    return;
  }

  const int64_t k = m.experts_per_token, hidden = k * m.expert_hidden;
  const bool exact = run.moe.router == MoeSpec::Router::kHfExact;
  const Tensors scores = rows(m.experts, wide), chosen = rows(k, index), gates = rows(k, wide);
  Tensors router = h | h_rms | scores | chosen;
  if (exact || wide == element) {
    router |= h_normed;
  } else {
    router |= rows(m.dim, wide) | make(m.experts * m.dim, wide);  // input and weight in the wide dtype
  }
  if (m.norm_topk_prob) router |= rows(k + 1, wide);  // gates before they are divided by their sum, and the sum
  add("router", 2 * m.dim * m.experts, 4 * m.dim + 8 * m.experts, h, router, 3 * m.dim + 2 * m.experts);
  always_ = chosen;

  const Tensors dispatched = rows(k * m.dim, element), order = rows(k, index), counts = make(m.experts, index);
  const Tensors gate_up = rows(2 * hidden, element), swiglu = rows(hidden, element);
  const Tensors outputs = rows(k * m.dim, element);
  add("dispatch", 0, 2 * k * m.dim, h | h_normed | gates | chosen, order, (k + 2) * m.dim);
  add("expert_gate_up", 4 * m.dim * hidden, 0, h | gates | dispatched | counts | order, dispatched | counts,
      (2 * k + 1) * m.dim + 2 * hidden);
  // The combination takes its gradient to the wide dtype, a token's row and their product beside it; SwiGLU's backward
  // comes when the outputs are gone.
  const int64_t in_combination = (k + 2) * m.dim + (wide == element ? 1 : 2 * wide / element) * m.dim;
  add("expert_residual", 2 * hidden * m.dim, 3 * hidden + 2 * k * m.dim + 2 * m.dim,
      h | gates | counts | order | gate_up, gates | counts | order | gate_up | swiglu | outputs,
      std::max(in_combination, 2 * hidden - (k - 1) * m.dim));
}

int64_t BlockCost::bytes_of(Tensors tensors) const {
  int64_t bytes = 0;
  for (size_t i = 0; i < tensor_bytes_.size(); ++i) {
    if (tensors >> i & 1) bytes += tensor_bytes_[i];
  }
  return bytes;
}

BlockCost::Tensors BlockCost::kept_tensors(const KeptResults& kept) const {
  Tensors tensors = always_;
  bool in_group = false;
  for (const Segment& segment : segments_) {
    if (kept.contains(segment.name)) {
      tensors |= segment.saves;
    } else if (!in_group) {
      tensors |= segment.takes;
    }
    in_group = !kept.contains(segment.name);
  }
  return tensors;
}

int64_t BlockCost::kept_bytes(const KeptResults& kept) const { return bytes_of(kept_tensors(kept)); }

int64_t BlockCost::all_bytes() const {
  Tensors tensors = always_;
  for (const Segment& segment : segments_) tensors |= segment.saves;
  return bytes_of(tensors);
}

int64_t BlockCost::backward_bytes(const KeptResults& kept) const {
  Tensors stay = always_, group = 0;  // of the segments up to this one
  int64_t most = 0;
  for (size_t i = 0; i < segments_.size(); ++i) {
    const Segment& segment = segments_[i];
    if (kept.contains(segment.name)) {
      stay |= segment.saves;
      group = 0;
    } else {
      if (i == 0 || kept.contains(segments_[i - 1].name)) stay |= segment.takes;
      group |= segment.saves;
    }
    most = std::max(most, bytes_of(stay | group) + segment.gradients);
  }
  return most;
}

double BlockCost::recomputed_flops(const KeptResults& kept) const {
  double flops = 0;
  for (const Segment& segment : segments_) flops += kept.contains(segment.name) ? 0 : segment.flops;
  return flops;
}

KeptResults BlockCost::within(double budget) const {
  struct Choice {
    KeptResults kept;
    double flops;
    int64_t bytes;
  };
  const auto choice = [&](uint32_t subset) {
    KeptResults kept;
    for (size_t i = 0; i < segments_.size(); ++i) {
      if (subset >> i & 1) kept.emplace(segments_[i].name);
    }
    return Choice{kept, recomputed_flops(kept), kept_bytes(kept)};
  };
  const double most = budget * static_cast<double>(all_bytes());
  Choice best = choice(0);
  for (uint32_t subset = 1; subset < uint32_t{1} << segments_.size(); ++subset) {
    Choice other = choice(subset);
    if (static_cast<double>(other.bytes) > most) continue;
    if (std::tie(other.flops, other.bytes) < std::tie(best.flops, best.bytes)) best = std::move(other);
  }
  return best.kept;
}

}  // namespace qwen3::spec
