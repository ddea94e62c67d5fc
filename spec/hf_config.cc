#include "spec/hf_config.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace qwen3::spec {
namespace {

using Json = nlohmann::json;

// Larger sizes are mistakes; with these limits no product of sizes leaves 63 bits, and a folder's expected names fit in
// a few megabytes.
constexpr int64_t kMaxDim = 1 << 20;
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHeads = 1 << 12;
constexpr int64_t kMaxVocab = 1 << 24;
constexpr int64_t kMaxExperts = 1024;
constexpr int64_t kMaxExpertsInAll = 1 << 16;  // of all layers
constexpr int64_t kMaxPosition = 1 << 28;
constexpr int kMaxDepth = 8;

// transformers' class defaults, for keys a config may leave out.
constexpr double kDefaultRopeTheta = 10000;
constexpr int64_t kDefaultMaxPosition = 32768;
constexpr int64_t kDefaultDenseHeadDim = 128;
constexpr double kDefaultNormEps = 1e-6;

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

// Parses strictly: no key twice, no deep nesting. Throws nlohmann's exceptions and ConfigError.
struct ConfigError {
  std::string what;
};

Json parse_strictly(std::string_view text) {
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > kMaxDepth) throw ConfigError{absl::StrCat("nested deeper than ", kMaxDepth)};
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second) {
      throw ConfigError{absl::StrCat("key ", shown(value), " is there twice")};
    }
    return true;
  };
  return Json::parse(text, check);
}

class Parser {
 public:
  explicit Parser(const Json& config) : config_(config) {}

  ModelShape parse() {
    family();
    if (!problems_.empty()) return {};  // of another architecture nothing else would make sense
    unsupported();
    sizes();
    rotary();
    return shape_;
  }

  std::vector<std::string> problems_;

 private:
  template <typename... Parts>
  void report(Parts&&... parts) {
    problems_.push_back(absl::StrCat(std::forward<Parts>(parts)...));
  }

  // Null for an absent key and for null, which transformers writes for "none".
  static const Json* find(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
  }
  const Json* find(const char* key) const { return find(config_, key); }

  void family() {
    const Json* type = find("model_type");
    if (type == nullptr || (*type != "qwen3" && *type != "qwen3_moe")) {
      report("model_type is ", type == nullptr ? "missing" : shown(*type),
             "; supported are \"qwen3\" and \"qwen3_moe\"");
      return;
    }
    moe_ = *type == "qwen3_moe";
    const char* wanted = moe_ ? "Qwen3MoeForCausalLM" : "Qwen3ForCausalLM";
    const Json* architectures = find("architectures");
    if (architectures != nullptr && *architectures != Json::array({wanted})) {
      report("architectures is ", shown(*architectures), "; supported with model_type ", shown(*type), " is [\"",
             wanted, "\"]");
    }
  }

  void unsupported() {
    must_be("hidden_act", "silu");
    must_be("attention_bias", false);
    must_be("use_sliding_window", false);
    if (const Json* types = find("layer_types"); types != nullptr) {
      for (const Json& layer : types->is_array() ? *types : Json::array({*types})) {
        if (layer == "full_attention") continue;
        report("layer_types holds ", shown(layer), "; supported is \"full_attention\" only");
        break;
      }
    }
    if (const Json* quantization = find("quantization_config"); quantization != nullptr) {
      report("quantization_config is ", shown(*quantization), "; supported are unquantised weights only");
    }
    if (const Json* partial = find("partial_rotary_factor"); partial != nullptr && *partial != 1.0) {
      report("partial_rotary_factor is ", shown(*partial), "; supported is 1");
    }
    if (!moe_) return;
    must_be("decoder_sparse_step", 1);
    if (const Json* dense = find("mlp_only_layers"); dense != nullptr && *dense != Json::array()) {
      report("mlp_only_layers is ", shown(*dense), "; supported is [] (every layer a mixture of experts)");
    }
  }

  void must_be(const char* key, const Json& wanted) {
    const Json* value = find(key);
    if (value != nullptr && *value != wanted) report(key, " is ", shown(*value), "; supported is ", shown(wanted));
  }

  // A whole number in [1, high]; `fallback` where the key is absent, 0: the key is required.
  int64_t size(const Json& object, const std::string& place, const char* key, int64_t high, int64_t fallback = 0) {
    const Json* value = find(object, key);
    if (value == nullptr) {
      if (fallback == 0) report(place, key, " is missing; it must be a whole number from 1 to ", high);
      return fallback;
    }
    const bool whole = value->is_number_integer() && *value >= 1 && *value <= high;
    if (!whole) report(place, key, " is ", shown(*value), "; it must be a whole number from 1 to ", high);
    return whole ? value->get<int64_t>() : 0;
  }
  int64_t size(const char* key, int64_t high, int64_t fallback = 0) { return size(config_, "", key, high, fallback); }

  // A number in [low, high]; nothing where the key is absent.
  std::optional<double> number(const Json& object, const std::string& place, const char* key, double low, double high) {
    const Json* value = find(object, key);
    if (value == nullptr) return std::nullopt;
    if (value->is_number() && value->get<double>() >= low && value->get<double>() <= high) return value->get<double>();
    report(place, key, " is ", shown(*value), "; it must be a number from ", low, " to ", high);
    return std::nullopt;
  }

  bool flag(const char* key, bool fallback) {
    const Json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) report(key, " is ", shown(*value), "; it must be true or false");
    return value->is_boolean() ? value->get<bool>() : fallback;
  }

  void sizes() {
    shape_.dim = size("hidden_size", kMaxDim);
    shape_.layers = size("num_hidden_layers", kMaxLayers);
    shape_.heads = size("num_attention_heads", kMaxHeads);
    shape_.kv_heads = size("num_key_value_heads", kMaxHeads);
    shape_.vocab = size("vocab_size", kMaxVocab);
    shape_.max_seq_len = size("max_position_embeddings", kMaxPosition, kDefaultMaxPosition);
    shape_.norm_eps = number(config_, "", "rms_norm_eps", 0, 1).value_or(kDefaultNormEps);
    shape_.tied = flag("tie_word_embeddings", false);
    // Qwen3MoeConfig has no default of its own: its model divides.
    const int64_t divided = shape_.heads > 0 ? std::max<int64_t>(1, shape_.dim / shape_.heads) : 1;
    shape_.head_dim = size("head_dim", kMaxHeads, moe_ ? divided : kDefaultDenseHeadDim);
    if (shape_.head_dim % 2 != 0) report("head_dim is ", shape_.head_dim, "; it must be even");
    if (shape_.kv_heads > 0 && shape_.heads % shape_.kv_heads != 0) {
      report("num_attention_heads is ", shape_.heads, "; it must be a multiple of num_key_value_heads, ",
             shape_.kv_heads);
    }
    if (!moe_) {
      shape_.ffn_hidden = size("intermediate_size", kMaxDim);
      return;
    }
    shape_.experts = size("num_experts", kMaxExperts);
    shape_.experts_per_token = size("num_experts_per_tok", kMaxExperts);
    shape_.expert_hidden = size("moe_intermediate_size", kMaxDim);
    shape_.norm_topk_prob = flag("norm_topk_prob", false);
    if (shape_.experts_per_token > shape_.experts && shape_.experts > 0) {
      report("num_experts_per_tok is ", shape_.experts_per_token, ", but num_experts is ", shape_.experts);
    }
    if (shape_.experts * shape_.layers > kMaxExpertsInAll) {
      report("num_experts is ", shape_.experts, " in ", shape_.layers, " layers; supported are ", kMaxExpertsInAll,
             " experts in all");
    }
  }

  // rope_theta and rope_scaling, or since transformers 5 both inside rope_parameters.
  void rotary() {
    const Json* parameters = find("rope_parameters");
    const Json* scaling = find("rope_scaling");
    for (const auto& [key, value] : {std::pair("rope_parameters", parameters), std::pair("rope_scaling", scaling)}) {
      if (value == nullptr || value->is_object()) continue;
      report(key, " is ", shown(*value), "; it must be an object");
      return;
    }
    if (parameters != nullptr && scaling != nullptr && *parameters != *scaling) {
      report("rope_parameters and rope_scaling are both there and differ; write one of them");
      return;
    }
    constexpr double kMaxTheta = 1e15;
    const auto outside = number(config_, "", "rope_theta", 1, kMaxTheta);
    const auto inside =
        parameters == nullptr ? std::nullopt : number(*parameters, "rope_parameters.", "rope_theta", 1, kMaxTheta);
    if (outside && inside && *outside != *inside) {
      report("rope_theta is ", *outside, ", but rope_parameters.rope_theta is ", *inside);
    }
    shape_.rope_theta = outside ? *outside : inside.value_or(kDefaultRopeTheta);
    if (parameters != nullptr)
      scaling_of(*parameters, "rope_parameters.");
    else if (scaling != nullptr)
      scaling_of(*scaling, "rope_scaling.");
  }

  void scaling_of(const Json& object, const std::string& place) {
    const Json* type = find(object, "rope_type");
    if (type == nullptr) type = find(object, "type");
    if (type == nullptr || *type == "default") return;
    if (*type != "yarn") {
      report(place, "rope_type is ", shown(*type), "; supported are \"default\" and \"yarn\"");
      return;
    }
    constexpr double kMaxFactor = 1e6;
    Yarn yarn;
    if (find(object, "factor") == nullptr) report(place, "factor is missing; yarn needs it");
    yarn.factor = number(object, place, "factor", 1, kMaxFactor).value_or(1);
    yarn.original_max_position =
        size(object, place, "original_max_position_embeddings", kMaxPosition, std::max<int64_t>(1, shape_.max_seq_len));
    // As in transformers, 0 stands for the default of these two.
    const auto or_default = [](std::optional<double> value, double fallback) {
      return value && *value != 0 ? *value : fallback;
    };
    yarn.beta_fast = or_default(number(object, place, "beta_fast", 0, kMaxFactor), 32);
    yarn.beta_slow = or_default(number(object, place, "beta_slow", 0, kMaxFactor), 1);
    if (yarn.beta_fast < yarn.beta_slow) {
      report(place, "beta_fast is ", yarn.beta_fast, "; it must be at least beta_slow, ", yarn.beta_slow);
    }
    yarn.attention_factor = number(object, place, "attention_factor", 0, kMaxFactor);
    const double mscale = number(object, place, "mscale", 0, kMaxFactor).value_or(0);
    const double mscale_all_dim = number(object, place, "mscale_all_dim", 0, kMaxFactor).value_or(0);
    if (!yarn.attention_factor && mscale != 0 && mscale_all_dim != 0) {
      const auto attention = [&](double scale) {
        return yarn.factor <= 1 ? 1 : 0.1 * scale * std::log(yarn.factor) + 1;
      };
      yarn.attention_factor = attention(mscale) / attention(mscale_all_dim);
    }
    if (const Json* truncate = find(object, "truncate"); truncate != nullptr && *truncate != true) {
      report(place, "truncate is ", shown(*truncate), "; supported is true");
    }
    if (!(shape_.rope_theta > 1)) report("rope_theta is ", shape_.rope_theta, "; yarn needs more than 1");
    shape_.yarn = yarn;
  }

  const Json& config_;
  ModelShape shape_;
  bool moe_ = false;
};

std::string flavor_of(const ModelShape& shape) {
  const auto sizes = [](const ModelShape& s) {
    return std::vector<int64_t>{s.dim,   s.layers, s.heads,   s.kv_heads,          s.head_dim,     s.ffn_hidden,
                                s.vocab, s.tied,   s.experts, s.experts_per_token, s.expert_hidden};
  };
  for (const ModelShape& flavor : flavors()) {
    if (sizes(flavor) == sizes(shape)) return flavor.flavor;
  }
  return "";
}

}  // namespace

absl::StatusOr<ModelShape> parse_hf_config(std::string_view text) try {
  if (text.size() > kMaxHfConfigBytes) {
    return absl::InvalidArgumentError(absl::StrCat("has ", text.size(), " bytes, want at most ", kMaxHfConfigBytes));
  }
  const Json config = parse_strictly(text);
  if (!config.is_object()) return absl::InvalidArgumentError("is no JSON object");
  Parser parser(config);
  ModelShape shape = parser.parse();
  if (!parser.problems_.empty()) return absl::InvalidArgumentError(absl::StrJoin(parser.problems_, "\n"));
  shape.flavor = flavor_of(shape);
  return shape;
} catch (const Json::exception& error) {
  return absl::InvalidArgumentError(absl::StrCat("not valid JSON: ", error.what()));
} catch (const ConfigError& error) {
  return absl::InvalidArgumentError(error.what);
}

}  // namespace qwen3::spec
