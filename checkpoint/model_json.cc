#include "checkpoint/model_json.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace qwen3::checkpoint {
namespace {

using Json = nlohmann::json;

constexpr std::pair<const char*, int64_t spec::ModelShape::*> kSizes[] = {
    {"dim", &spec::ModelShape::dim},
    {"layers", &spec::ModelShape::layers},
    {"heads", &spec::ModelShape::heads},
    {"kv_heads", &spec::ModelShape::kv_heads},
    {"head_dim", &spec::ModelShape::head_dim},
    {"ffn_hidden", &spec::ModelShape::ffn_hidden},
    {"vocab", &spec::ModelShape::vocab},
    {"max_seq_len", &spec::ModelShape::max_seq_len},
    {"experts", &spec::ModelShape::experts},
    {"experts_per_token", &spec::ModelShape::experts_per_token},
    {"expert_hidden", &spec::ModelShape::expert_hidden},
};

// Sizes that the tensors' shapes do not tell, or not clearly.
constexpr std::pair<const char*, int64_t spec::ModelShape::*> kStructure[] = {
    {"layers", &spec::ModelShape::layers},     {"heads", &spec::ModelShape::heads},
    {"kv_heads", &spec::ModelShape::kv_heads}, {"head_dim", &spec::ModelShape::head_dim},
    {"experts", &spec::ModelShape::experts},   {"experts_per_token", &spec::ModelShape::experts_per_token},
};

Json yarn_json(const spec::Yarn& yarn) {
  Json json = {{"factor", yarn.factor},
               {"original_max_position", yarn.original_max_position},
               {"beta_fast", yarn.beta_fast},
               {"beta_slow", yarn.beta_slow}};
  if (yarn.attention_factor) json["attention_factor"] = *yarn.attention_factor;
  return json;
}

spec::Yarn yarn_from(const Json& json) {
  spec::Yarn yarn;
  yarn.factor = json.at("factor");
  yarn.original_max_position = json.at("original_max_position");
  yarn.beta_fast = json.at("beta_fast");
  yarn.beta_slow = json.at("beta_slow");
  if (json.contains("attention_factor")) yarn.attention_factor = json.at("attention_factor").get<double>();
  return yarn;
}

}  // namespace

std::string model_json(const spec::ModelShape& shape, const HfOrigin& origin) {
  Json json = {{"flavor", shape.flavor},
               {"rope_theta", shape.rope_theta},
               {"tied", shape.tied},
               {"norm_eps", shape.norm_eps},
               {"norm_topk_prob", shape.norm_topk_prob}};
  for (const auto& [key, member] : kSizes) json[key] = shape.*member;
  if (shape.yarn) json["yarn"] = yarn_json(*shape.yarn);
  if (!origin.dtype.empty()) json["hf_dtype"] = origin.dtype;
  if (origin.tied_head) json["hf_tied_head"] = true;
  return json.dump();
}

absl::StatusOr<ModelRecord> parse_model_json(const std::string& text) try {
  const Json json = Json::parse(text);
  ModelRecord record;
  if (const auto* flavor = spec::find_flavor(json.value("flavor", "")); flavor != nullptr) record.shape = *flavor;
  spec::ModelShape& shape = record.shape;
  shape.flavor = json.value("flavor", "");
  for (const auto& [key, member] : kSizes) {
    shape.*member = json.value(key, shape.*member);
    const bool needed = json.contains(key) || shape.*member != 0;
    constexpr int64_t kMax = int64_t{1} << 40;
    if (shape.*member < 0 || shape.*member > kMax || (!needed && member == &spec::ModelShape::dim)) {
      return absl::InvalidArgumentError(absl::StrCat("model: ", key, " is ", shape.*member, ", want a size"));
    }
  }
  shape.rope_theta = json.value("rope_theta", shape.rope_theta);
  shape.tied = json.value("tied", shape.tied);
  shape.norm_eps = json.value("norm_eps", shape.norm_eps);
  shape.norm_topk_prob = json.value("norm_topk_prob", shape.norm_topk_prob);
  if (json.contains("yarn")) shape.yarn = yarn_from(json["yarn"]);
  record.origin.dtype = json.value("hf_dtype", "");
  record.origin.tied_head = json.value("hf_tied_head", false);
  return record;
} catch (const Json::exception& error) {
  return absl::InvalidArgumentError(absl::StrCat("model: ", error.what()));
}

std::string structural_difference(const spec::ModelShape& held, const spec::ModelShape& wanted) {
  for (const auto& [key, member] : kStructure) {
    const int64_t got = held.*member, want = wanted.*member;
    if (got != want && got != 0) return absl::StrCat(key, " is ", got, ", the run wants ", want);
  }
  const auto differs = [](const char* key, bool got) {
    return absl::StrCat(key, " is ", got ? "true" : "false", ", the run wants ", got ? "false" : "true");
  };
  if (held.tied != wanted.tied) return differs("tied", held.tied);
  const bool gates = wanted.experts > 0 && held.norm_topk_prob != wanted.norm_topk_prob;
  return gates ? differs("norm_topk_prob", held.norm_topk_prob) : "";
}

}  // namespace qwen3::checkpoint
