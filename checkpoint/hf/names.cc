#include "checkpoint/hf/names.h"

#include <algorithm>
#include <charconv>
#include <span>

#include "absl/strings/str_cat.h"

namespace qwen3::checkpoint {
namespace {

// Sizes of a tensor as letters: D model, Q and K heads times head size, E head size, F hidden size of the MLP, X
// experts, V vocabulary.
struct Row {
  std::string_view ours;
  std::string_view theirs;  // of an expert: after "mlp.experts.N."
  std::string_view dims;
};

constexpr Row kEmbedding = {"tok_embeddings.weight", "model.embed_tokens.weight", "VD"};
constexpr Row kNorm = {"norm.weight", "model.norm.weight", "D"};
constexpr Row kHead = {"lm_head.weight", "lm_head.weight", "VD"};

// In the order of the layer.
constexpr Row kAttention[] = {
    {"attention_norm.weight", "input_layernorm.weight", "D"},
    {"attention.wq.weight", "self_attn.q_proj.weight", "QD"},
    {"attention.wk.weight", "self_attn.k_proj.weight", "KD"},
    {"attention.wv.weight", "self_attn.v_proj.weight", "KD"},
    {"attention.q_norm.weight", "self_attn.q_norm.weight", "E"},
    {"attention.k_norm.weight", "self_attn.k_norm.weight", "E"},
    {"attention.wo.weight", "self_attn.o_proj.weight", "DQ"},
    {"ffn_norm.weight", "post_attention_layernorm.weight", "D"},
};
constexpr Row kDense[] = {
    {"feed_forward.w1.weight", "mlp.gate_proj.weight", "FD"},
    {"feed_forward.w3.weight", "mlp.up_proj.weight", "FD"},
    {"feed_forward.w2.weight", "mlp.down_proj.weight", "DF"},
};
constexpr Row kRouter[] = {{"moe.router.gate.weight", "mlp.gate.weight", "XD"}};
constexpr Row kExperts[] = {
    {"moe.experts.w1", "gate_proj.weight", "XFD"},
    {"moe.experts.w3", "up_proj.weight", "XFD"},
    {"moe.experts.w2", "down_proj.weight", "XDF"},
};
constexpr std::string_view kExpertsPrefix = "mlp.experts.";
constexpr std::string_view kFusedGateUp = "gate_up_proj", kFusedDown = "down_proj";
constexpr std::string_view kBuffers[] = {"moe.expert_bias", "moe.expert_counts"};

absl::string_view view(std::string_view text) { return {text.data(), text.size()}; }

std::vector<int64_t> shape_of(const spec::ModelShape& model, std::string_view dims) {
  std::vector<int64_t> shape;
  for (const char dim : dims) {
    switch (dim) {
      case 'D':
        shape.push_back(model.dim);
        break;
      case 'Q':
        shape.push_back(model.heads * model.head_dim);
        break;
      case 'K':
        shape.push_back(model.kv_heads * model.head_dim);
        break;
      case 'E':
        shape.push_back(model.head_dim);
        break;
      case 'F':
        shape.push_back(model.experts > 0 ? model.expert_hidden : model.ffn_hidden);
        break;
      case 'X':
        shape.push_back(model.experts);
        break;
      default:
        shape.push_back(model.vocab);
    }
  }
  return shape;
}

std::vector<Row> rows_of_layer(const spec::ModelShape& model) {
  std::vector<Row> rows(std::begin(kAttention), std::end(kAttention));
  const auto add = [&](std::span<const Row> more) { rows.insert(rows.end(), more.begin(), more.end()); };
  if (model.experts > 0) {
    add(kRouter);
    add(kExperts);
  } else {
    add(kDense);
  }
  return rows;
}

bool is_expert(const Row& row) { return row.dims.size() == 3; }

// Takes "N." off the front of `text`: a canonical number below `limit`.
std::optional<int64_t> take_number(std::string_view& text, int64_t limit) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto digits = static_cast<size_t>(end - text.data());
  const bool canonical = error == std::errc() && text[0] != '-' && (digits == 1 || text[0] != '0');
  if (!canonical || number >= limit || digits == text.size() || text[digits] != '.') return std::nullopt;
  text.remove_prefix(digits + 1);
  return number;
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// `name` is what follows "mlp.experts."; `first` the index of w1 among the parameters.
std::optional<HfTarget> find_expert(const spec::ModelShape& model, std::string_view name, size_t first) {
  const int64_t experts = model.experts, hidden = model.expert_hidden;
  if (name == kFusedGateUp) {
    return HfTarget{HfTarget::kGateUp, first, first + 1, 0, {experts, 2 * hidden, model.dim}};
  }
  if (name == kFusedDown) return HfTarget{HfTarget::kWhole, first + 2, 0, 0, {experts, model.dim, hidden}};
  const std::optional<int64_t> expert = take_number(name, experts);
  if (!expert) return std::nullopt;
  for (size_t i = 0; i < std::size(kExperts); ++i) {
    if (name != kExperts[i].theirs) continue;
    return HfTarget{HfTarget::kExpert, first + i, 0, *expert, shape_of(model, kExperts[i].dims.substr(1))};
  }
  return std::nullopt;
}

}  // namespace

std::string hf_name(const std::string& parameter) {
  for (const Row& row : {kEmbedding, kNorm, kHead}) {
    if (parameter == row.ours) return std::string(row.theirs);
  }
  std::string_view name = parameter;
  if (!take_prefix(name, "layers.")) return "";
  const std::optional<int64_t> layer = take_number(name, INT64_MAX);
  if (!layer) return "";
  for (const std::span<const Row> rows :
       {std::span<const Row>(kAttention), std::span<const Row>(kDense), std::span<const Row>(kRouter)}) {
    for (const Row& row : rows) {
      if (name == row.ours) return absl::StrCat("model.layers.", *layer, ".", view(row.theirs));
    }
  }
  return "";
}

bool is_buffer(std::string_view name) {
  if (!take_prefix(name, "layers.") || !take_number(name, INT64_MAX)) return false;
  return std::find(std::begin(kBuffers), std::end(kBuffers), name) != std::end(kBuffers);
}

std::vector<HfTensor> hf_tensors(const spec::ModelShape& model, bool tied_head) {
  std::vector<HfTensor> tensors;
  const auto add = [&](std::string name, std::string parameter, const Row& row) {
    const std::vector<int64_t> shape = shape_of(model, row.dims);
    tensors.push_back({std::move(name), std::move(parameter), shape, 0, shape[0]});
  };
  add(std::string(kEmbedding.theirs), std::string(kEmbedding.ours), kEmbedding);
  const std::vector<Row> rows = rows_of_layer(model);
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const std::string ours = absl::StrCat("layers.", layer, "."), theirs = absl::StrCat("model.layers.", layer, ".");
    for (const Row& row : rows) {
      if (!is_expert(row)) add(absl::StrCat(theirs, view(row.theirs)), absl::StrCat(ours, view(row.ours)), row);
    }
    for (int64_t expert = 0; expert < model.experts; ++expert) {
      for (const Row& row : kExperts) {
        tensors.push_back({absl::StrCat(theirs, view(kExpertsPrefix), expert, ".", view(row.theirs)),
                           absl::StrCat(ours, view(row.ours)), shape_of(model, row.dims.substr(1)), expert, 1});
      }
    }
  }
  add(std::string(kNorm.theirs), std::string(kNorm.ours), kNorm);
  if (!model.tied) add(std::string(kHead.theirs), std::string(kHead.ours), kHead);
  if (model.tied && tied_head) add(std::string(kHead.theirs), std::string(kEmbedding.ours), kHead);
  return tensors;
}

std::optional<HfTarget> find_hf_name(const spec::ModelShape& model, std::string_view name) {
  if (name.ends_with("rotary_emb.inv_freq")) return HfTarget{};
  const std::vector<Row> rows = rows_of_layer(model);
  const size_t norm = 1 + static_cast<size_t>(model.layers) * rows.size();
  if (name == kEmbedding.theirs) return HfTarget{HfTarget::kWhole, 0, 0, 0, shape_of(model, kEmbedding.dims)};
  if (name == kNorm.theirs) return HfTarget{HfTarget::kWhole, norm, 0, 0, shape_of(model, kNorm.dims)};
  if (name == kHead.theirs) {
    const auto kind = model.tied ? HfTarget::kTiedHead : HfTarget::kWhole;
    return HfTarget{kind, model.tied ? 0 : norm + 1, 0, 0, shape_of(model, kHead.dims)};
  }
  if (!take_prefix(name, "model.layers.")) return std::nullopt;
  const std::optional<int64_t> layer = take_number(name, model.layers);
  if (!layer) return std::nullopt;
  const size_t first = 1 + static_cast<size_t>(*layer) * rows.size();
  if (model.experts > 0 && take_prefix(name, kExpertsPrefix)) {
    return find_expert(model, name, first + std::size(kAttention) + std::size(kRouter));
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    if (is_expert(rows[i]) || name != rows[i].theirs) continue;
    return HfTarget{HfTarget::kWhole, first + i, 0, 0, shape_of(model, rows[i].dims)};
  }
  return std::nullopt;
}

}  // namespace qwen3::checkpoint
