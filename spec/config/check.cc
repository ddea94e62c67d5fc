#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <initializer_list>

#include "spec/config/init.h"
#include "spec/config/job_spec.h"

namespace qwen3::spec::config {
namespace {

// Dataset names that set-up provides.
constexpr std::array<std::string_view, 1> kDatasets = {"shakespeare"};

// Checks of what a RunSpec no longer shows: strings, paths, and the sections that only the service reads.
class Checker {
 public:
  Checker(const v1::JobSpec& spec, const Environment& environment)
      : spec_(spec), environment_(environment), run_(run_spec_from_job(spec, environment)) {}

  std::vector<Violation> check() {
    model();
    strings();
    mesh();
    data();
    checkpoint();
    service();
    const std::vector<Violation> rules = check_rules(run_);
    violations_.insert(violations_.end(), rules.begin(), rules.end());
    return std::move(violations_);
  }

 private:
  template <typename... Parts>
  void report(std::string field, Parts&&... parts) {
    violations_.push_back({std::move(field), absl::StrCat(std::forward<Parts>(parts)...)});
  }

  void one_of(const std::string& field, const std::string& value, std::initializer_list<const char*> valid) {
    if (std::find(valid.begin(), valid.end(), value) != valid.end()) return;
    report(field, field, " is \"", value, "\"; it must be ", valid.size() > 1 ? "one of " : "", "\"",
           absl::StrJoin(valid, "\", \""), "\"");
  }

  void model() {
    one_of("model.name", spec_.model().name(), {"qwen3"});
    init();
    if (find_flavor(spec_.model().flavor()) != nullptr) return;
    if (!spec_.model().has_flavor() && !run_.init_hf_folder.empty()) return;
    const auto all = flavors();
    const std::string names =
        absl::StrJoin(all, ", ", [](std::string* out, const ModelShape& shape) { absl::StrAppend(out, shape.flavor); });
    if (!spec_.model().has_flavor()) {
      report("model.flavor", "model.flavor is missing; write one of ", names);
    } else {
      report("model.flavor", "model.flavor is \"", spec_.model().flavor(), "\"; it must be one of ", names);
    }
  }

  void init() {
    const v1::ModelSection& model = spec_.model();
    const std::string& folder = run_.init_hf_folder;
    if (folder.empty()) {
      if (model.init() != "random") {
        report("model.init", "model.init is \"", model.init(), "\"; it must be \"random\" or \"hf:FOLDER\"");
      }
      return;
    }
    if (!is_absolute("model.init", folder)) return;
    const absl::StatusOr<ModelShape> shape = hf_model(folder);
    if (!shape.ok()) {
      for (const absl::string_view line : absl::StrSplit(shape.status().message(), '\n')) {
        report("model.init", "model.init: ", line);
      }
      return;
    }
    const ModelShape* flavor = find_flavor(model.flavor());
    if (flavor != nullptr && flavor->flavor != shape->flavor) {
      report("model.flavor", "model.flavor is \"", model.flavor(), "\" (", sizes(*flavor), "), but ", folder,
             "/config.json says ", sizes(*shape), "; leave it out");
    }
    if (model.vocab_size() != 0 && model.vocab_size() != shape->vocab) {
      report("model.vocab_size", "model.vocab_size is ", model.vocab_size(), ", but ", folder,
             "/config.json says vocab_size ", shape->vocab, "; leave it out");
    }
    if (!spec_.checkpoint().initial_load_path().empty()) {
      report("checkpoint.initial_load_path",
             "checkpoint.initial_load_path and model.init both say where the first weights come from; write one");
    }
  }

  static std::string sizes(const ModelShape& shape) {
    return absl::StrCat("dim ", shape.dim, ", ", shape.layers, " layers, ", shape.heads, "/", shape.kv_heads,
                        " heads, ",
                        shape.experts > 0 ? absl::StrCat(shape.experts, " experts of ", shape.expert_hidden)
                                          : absl::StrCat("ffn ", shape.ffn_hidden),
                        ", vocabulary ", shape.vocab, shape.tied ? ", tied" : ", untied");
  }

  void strings() {
    one_of("optimizer.name", spec_.optimizer().name(), {"AdamW"});
    one_of("lr_scheduler.decay_type", spec_.lr_scheduler().decay_type(), {"linear", "sqrt", "cosine"});
    one_of("training.dtype", spec_.training().dtype(), {"float32"});
    one_of("training.mixed_precision_param", spec_.training().mixed_precision_param(), {"auto", "bfloat16", "float32"});
    one_of("training.mixed_precision_reduce", spec_.training().mixed_precision_reduce(), {"float32", "bfloat16"});
    one_of("parallelism.fsdp_reshard_after_forward", spec_.parallelism().fsdp_reshard_after_forward(),
           {"default", "always", "never"});
    one_of("parallelism.fsdp_reduce", spec_.parallelism().fsdp_reduce(), {"microbatch", "step"});
    one_of("checkpoint.export_dtype", spec_.checkpoint().export_dtype(), {"float32", "bfloat16", "float16"});
    one_of("checkpoint.async_mode", spec_.checkpoint().async_mode(), {"async", "disabled"});
    one_of("activation_checkpoint.mode", spec_.activation_checkpoint().mode(),
           {"none", "full", "selective", "memory_budget"});
    one_of("moe.router", spec_.moe().router(), {"float32", "hf_exact"});
    one_of("moe.aux_loss_scope", spec_.moe().aux_loss_scope(), {"microbatch", "global_batch"});
    const double ratio = spec_.lr_scheduler().decay_ratio();
    if (spec_.lr_scheduler().has_decay_ratio() && !(ratio >= 0 && ratio <= 1)) {
      report("lr_scheduler.decay_ratio", "lr_scheduler.decay_ratio is ", ratio,
             "; it must be between 0 and 1, a share of total_steps");
    }
  }

  void mesh() {
    const v1::ParallelismSection& p = spec_.parallelism();
    const int64_t slots = spec_.resources().slots();
    if (slots < 1) {
      report("resources.slots", "resources.slots is ", slots, "; it must be at least 1, one rank each");
      return;
    }
    const auto& degrees = run_.mesh.degrees;
    if (std::any_of(degrees.begin(), degrees.end(), [](int64_t d) { return d < 1; })) return;  // the rules say so
    const int64_t ranks = run_.mesh.world_size();
    if (ranks == slots) return;
    report("parallelism", "parallelism: dp_replicate ", p.data_parallel_replicate_degree(), " * dp_shard ",
           p.data_parallel_shard_degree(), " * cp ", p.context_parallel_degree(), " * tp ", p.tensor_parallel_degree(),
           " * pp ", p.pipeline_parallel_degree(), " = ", ranks, ", but resources.slots is ", slots);
  }

  // `set_up`: the path is one that set-up makes, so the sentence says so.
  void exists(const std::string& field, const std::string& what, const std::string& path, bool set_up) {
    std::error_code error;
    if (std::filesystem::exists(path, error)) return;
    report(field, what, " ", path, " does not exist on this machine",
           set_up ? "; run setup/install.sh, or give a path of your own" : "");
  }

  bool is_absolute(const std::string& field, const std::string& path) {
    if (std::filesystem::path(path).is_absolute()) return true;
    report(field, field, " is \"", path, "\"; a service needs an absolute path");
    return false;
  }

  // A text that `field` names, if it does.
  void text(const std::string& field, const std::string& path) {
    if (path.empty() || !is_absolute(field, path)) return;
    if (absl::EndsWith(path, ".parquet")) {
      report(field, field, " is \"", path, "\"; Parquet is not read, write .jsonl, .txt or either with .gz or .zst");
      return;
    }
    exists(field, field, path, /*set_up=*/false);
  }

  void data() {
    text("training.dataset_path", spec_.training().dataset_path());
    text("validation.dataset_path", spec_.validation().dataset_path());
    if (spec_.training().dataset_path().empty()) dataset();
    examples();

    const v1::ModelSection& model = spec_.model();
    const bool own = !model.tokenizer_path().empty();
    const bool assets = !own && !model.hf_assets_path().empty();
    const bool weights = !own && !assets && !run_.init_hf_folder.empty();
    const std::string field = own       ? "model.tokenizer_path"
                              : assets  ? "model.hf_assets_path"
                              : weights ? "model.init"
                                        : "model.flavor";
    if (own || assets) {
      if (!is_absolute(field, own ? model.tokenizer_path() : model.hf_assets_path())) return;
    } else if (weights) {
      if (!std::filesystem::path(run_.init_hf_folder).is_absolute()) return;  // init() says so
    } else if (environment_.data_root.empty()) {
      report("model.tokenizer_path", "no tokenizer: set-up's folder (data root) is not known here, so ",
             "model.tokenizer_path or model.hf_assets_path must name one");
      return;
    }
    exists(field, absl::StrCat(field, ": tokenizer"), run_.data.tokenizer, !own && !assets && !weights);
  }

  // Fine-tuning on prompts and responses.
  void examples() {
    const v1::TrainingSection& training = spec_.training();
    if (training.prompt_key().empty()) return;
    if (training.dataset_path().empty()) {
      report("training.prompt_key", "training.prompt_key is \"", training.prompt_key(),
             "\", but dataset_path names no JSON lines with prompts and responses");
    }
    if (training.response_key().empty() || training.response_key() == training.prompt_key()) {
      report("training.response_key", "training.response_key is \"", training.response_key(),
             "\"; with a prompt_key it must name another member, that of the response");
    }
  }

  void dataset() {
    const std::string& name = spec_.training().dataset();
    if (std::find(kDatasets.begin(), kDatasets.end(), name) == kDatasets.end()) {
      report("training.dataset", "training.dataset is \"", name, "\"; ",
             absl::StartsWith(name, "c4") ? "C4 is not fetched from the Hugging Face Hub here, write "
                                          : "the only dataset known by name is \"shakespeare\", write that or ",
             "dataset_path = \"/path/to/text\" (.txt or .jsonl, also .gz or .zst, or a folder of them)",
             absl::StartsWith(name, "c4") ? ", or dataset = \"shakespeare\"" : "");
    } else if (environment_.data_root.empty()) {
      report("training.dataset", "training.dataset \"", name,
             "\": set-up's folder (data root) is not known here; write "
             "training.dataset_path");
    } else {
      exists("training.dataset", absl::StrCat("training.dataset \"", name, "\":"), run_.data.path,
             /*set_up=*/true);
    }
  }

  void checkpoint() {
    const v1::CheckpointSection& c = spec_.checkpoint();
    if (c.keep_latest_k() == 1) {
      report("checkpoint.keep_latest_k",
             "checkpoint.keep_latest_k is 1: the only checkpoint would be pruned while the "
             "next is being written; write 2 or more, or 0 to keep all");
    } else if (c.keep_latest_k() < 0) {
      report("checkpoint.keep_latest_k", "checkpoint.keep_latest_k is ", c.keep_latest_k(),
             "; it must be 2 or more, or 0 to keep all");
    }
    if (c.keep_best_k() < 0) {
      report("checkpoint.keep_best_k", "checkpoint.keep_best_k is ", c.keep_best_k(), "; it must be at least 0");
    } else if (c.keep_best_k() > 0 && c.keep_latest_k() == 0) {
      report("checkpoint.keep_best_k", "checkpoint.keep_best_k is ", c.keep_best_k(),
             ", but checkpoint.keep_latest_k is 0 and keeps every checkpoint; leave one of them out");
    }
    const std::filesystem::path folder = c.folder();
    if (folder.empty() || folder.is_absolute() || std::find(folder.begin(), folder.end(), "..") != folder.end()) {
      report("checkpoint.folder", "checkpoint.folder is \"", c.folder(),
             "\"; it must be a relative path without \"..\", inside the service's checkpoint root");
    }
    const std::string& from = c.initial_load_path();
    if (from.empty() || absl::StartsWith(from, "tenants/")) return;
    if (is_absolute("checkpoint.initial_load_path", from)) {
      exists("checkpoint.initial_load_path", "checkpoint.initial_load_path", from, /*set_up=*/false);
    }
  }

  void service() {
    if (spec_.retry().max_infra_retries() < 0) {
      report("retry.max_infra_retries", "retry.max_infra_retries is ", spec_.retry().max_infra_retries(),
             "; it must be at least 0");
    }
    if (spec_.retry().max_attempts_without_progress() < 1) {
      report("retry.max_attempts_without_progress", "retry.max_attempts_without_progress is ",
             spec_.retry().max_attempts_without_progress(), "; it must be at least 1");
    }
  }

  const v1::JobSpec& spec_;
  const Environment& environment_;
  const RunSpec run_;  // names resolved as far as they can be
  std::vector<Violation> violations_;
};

}  // namespace

std::vector<Violation> check(const v1::JobSpec& spec, const Environment& environment) {
  return Checker(spec, environment).check();
}

}  // namespace qwen3::spec::config
