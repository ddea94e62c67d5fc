#include "spec/activation_checkpoint.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

#include "spec/units.h"

namespace qwen3::spec {
namespace {

constexpr std::array<std::string_view, 5> kDense = {"qkv", "attention", "attention_residual", "gate_up",
                                                    "mlp_residual"};
constexpr std::array<std::string_view, 7> kMoe = {"qkv",      "attention",      "attention_residual", "router",
                                                  "dispatch", "expert_gate_up", "expert_residual"};
constexpr std::array<std::string_view, 3> kOp = {"attention", "gate_up", "expert_gate_up"};

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
  const int64_t tp = run.mesh.degree(Axis::kTp), ep = run.mesh.ep;
  const int64_t all = run.data.local_batch_size * run.data.seq_len;  // tokens of the microbatch
  const int64_t here = run.sequence_parallel ? all / tp : all;       // between what tensor parallelism cuts
  const int64_t element = compute_bytes(run);
  const int64_t wide = state_bytes(run);  // also of statistics, scores and gates
  const int64_t index = 8;
  const int64_t heads = m.heads / tp, kv_heads = m.kv_heads / tp, q = heads * m.head_dim, kv = kv_heads * m.head_dim;

  const auto make = [&](int64_t elements, int64_t bytes) -> Tensors {
    tensor_bytes_.push_back(elements * bytes);
    return Tensors{1} << (tensor_bytes_.size() - 1);
  };
  const auto rows = [&](int64_t tokens, int64_t width, int64_t bytes) { return make(tokens * width, bytes); };
  // FLOPs of products, and of all else; `gradients` in elements.
  const auto add = [&](std::string_view name, int64_t product, int64_t other, Tensors takes, Tensors saves,
                       int64_t gradients) {
    segments_.push_back({name, static_cast<double>(product + other), takes, saves, gradients * element});
  };
  // Elements that live at once while a gradient [all, D] crosses the border of tensor parallelism. Out of the cut
  // layers: the sum of the ranks' partial gradients, which are sent and received, and added in the wide dtype; the
  // gathered rows are gone by then. Into them: the pieces gathered and joined.
  const int64_t leaves = tp == 1 ? 0 : all * m.dim * (wide == element ? 2 : 2 + wide / element);
  const int64_t enters = tp == 1 ? 0 : run.sequence_parallel ? 2 * all * m.dim : 0;
  // The same around linear layers that overlap with it (parallel/tensor/overlap.cc), where the gradients of the layers'
  // outputs and the gathered rows stay until all is done. Out of them: every piece of the inputs' gradient, sent and
  // received, or received and taken to the wide dtype. Into them: the pieces and what is made of each, and both joined.
  const bool async = tp > 1 && run.async_tensor_parallel;
  const int64_t pieces_leave = all * m.dim * (wide == element ? 2 : 1 + wide / element);
  const auto pieces_enter = [&](int64_t width) { return 2 * all * (m.dim + width) - here * m.dim; };

  const Tensors x = rows(here, m.dim, element), x_rms = rows(here, 1, wide), x_normed = rows(all, m.dim, element);
  const Tensors projected = rows(all, q + kv, element), head_rms = rows(all, heads + kv_heads, wide);
  const Tensors q_k_v = rows(all, q + 2 * kv, element);
  add("qkv", all * 2 * m.dim * (q + 2 * kv), here * 4 * m.dim + all * 4 * (q + kv), x,
      x | x_rms | x_normed | projected | head_rms,
      here * m.dim + std::max(all * 2 * (q + kv), async ? all * kv + pieces_leave : leaves));

  const Tensors attention = rows(all, q, element), log_sum_exp = rows(all, heads, wide);
  add("attention", all * 2 * q * run.data.seq_len, all * 4 * heads * run.data.seq_len, x | q_k_v,
      q_k_v | attention | log_sum_exp, here * m.dim + all * 2 * (q + kv));
  add("attention_residual", all * 2 * q * m.dim, here * 3 * m.dim, x | attention, attention,
      here * m.dim + (async ? pieces_enter(q) : std::max(all * q + enters / 2, enters)));

  const Tensors h = rows(here, m.dim, element), h_rms = rows(here, 1, wide);
  if (m.experts == 0) {
    const int64_t hidden = m.ffn_hidden / tp;
    const Tensors h_normed = rows(all, m.dim, element);
    const Tensors gate_up = rows(all, 2 * hidden, element), swiglu = rows(all, hidden, element);
    add("gate_up", all * 4 * m.dim * hidden, here * 4 * m.dim, h, h | h_rms | h_normed,
        here * m.dim +
            (async ? all * 2 * hidden + pieces_leave : std::max(all * (2 * hidden + 2 * m.dim), all * m.dim + leaves)));
    add("mlp_residual", all * 2 * hidden * m.dim, all * 3 * hidden + here * 3 * m.dim, h | gate_up, gate_up | swiglu,
        here * m.dim + (async ? pieces_enter(hidden) : std::max(all * 2 * hidden, all * hidden + enters)));
    return;
  }

  // Each rank's experts take the choices of all tokens of its tp ranks, cut along the hidden dim; or, over an axis of
  // their own and at an even load, as many rows as there are choices of this rank's tokens.
  const int64_t routed = ep > 1 ? all / tp : all;
  const int64_t k = m.experts_per_token, choices = routed * k;
  const int64_t hidden = ep > 1 ? m.expert_hidden : m.expert_hidden / tp;
  const bool exact = run.moe.router == MoeSpec::Router::kHfExact;
  const Tensors h_normed = rows(here, m.dim, element);
  const Tensors scores = rows(here, m.experts, wide), chosen = rows(here, k, index);
  const Tensors gates = rows(std::max(here, routed), k, wide);
  Tensors router = h | h_rms | scores | chosen;
  if (exact || wide == element) {
    router |= h_normed;
  } else {
    router |= rows(here, m.dim, wide) | make(m.experts * m.dim, wide);  // input and weight in the wide dtype
  }
  if (m.norm_topk_prob) router |= rows(here, k + 1, wide);  // gates before they are divided by their sum, and the sum
  add("router", here * 2 * m.dim * m.experts, here * (4 * m.dim + 8 * m.experts), h, router,
      here * (3 * m.dim + 2 * m.experts));
  always_ = chosen;

  const Tensors dispatched = rows(choices, m.dim, element), order = rows(choices, 1, index);
  const Tensors counts = make(m.experts, index);
  const Tensors gate_up = rows(choices, 2 * hidden, element), swiglu = rows(choices, hidden, element);
  const Tensors outputs = rows(choices, m.dim, element);
  // Rows that travel exist twice for a while: by expert, and by the rank that they come from or go to.
  const int64_t travelling = ep > 1 ? choices * m.dim : 0;
  add("dispatch", 0, 2 * choices * m.dim, h | h_normed | gates | chosen, order,
      2 * here * m.dim + choices * m.dim + std::max(travelling, ep > 1 ? 0 : leaves));
  add("expert_gate_up", choices * 4 * m.dim * hidden, 0, h | gates | dispatched | counts | order, dispatched | counts,
      here * m.dim + choices * (2 * m.dim + 2 * hidden));
  // The combination takes its gradient to the wide dtype, a token's row and their product beside it; SwiGLU's backward
  // comes when the outputs are gone.
  const int64_t in_combination = choices * m.dim + here * m.dim +
                                 routed * m.dim * (wide == element ? 2 : 1 + 2 * wide / element) +
                                 (ep > 1 ? 0 : enters / 2);
  add("expert_residual", choices * 2 * hidden * m.dim, choices * (3 * hidden + 2 * m.dim) + here * 2 * m.dim,
      h | gates | counts | order | gate_up, gates | counts | order | gate_up | swiglu | outputs,
      std::max({in_combination, choices * 2 * hidden + here * m.dim - choices * m.dim,
                here * m.dim + choices * m.dim + travelling - choices * m.dim}));
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

std::vector<int64_t> BlockCost::backward_bytes(const KeptResults& kept) const {
  Tensors stay = always_, group = 0;  // of the segments up to this one
  std::vector<int64_t> bytes;
  for (size_t i = 0; i < segments_.size(); ++i) {
    const Segment& segment = segments_[i];
    if (kept.contains(segment.name)) {
      stay |= segment.saves;
      group = 0;
    } else {
      if (i == 0 || kept.contains(segments_[i - 1].name)) stay |= segment.takes;
      group |= segment.saves;
    }
    bytes.push_back(bytes_of(stay | group) + segment.gradients);
  }
  return bytes;
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
