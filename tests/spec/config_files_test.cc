// Every configuration we ship loads without a mistake or a warning; torchtitan's own files parse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "spec/config/load.h"
#include "spec/estimate.h"
#include "spec/flavor.h"
#include "tests/spec/stub_data_root.h"

namespace qwen3::spec::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string torchtitan_file(const std::string& name) {
  return read_file(std::filesystem::path(QWEN3_SOURCE_DIR) / "tests/spec/torchtitan" / name);
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  text.replace(text.find(from), from.size(), to);
  return text;
}

// What the fine-tuning example names, below the folder that paths are seen from.
void write_fine_tuning_files(const StubDataRoot& root) {
  root.file("configs/finetune_example.jsonl");
  root.file("assets/hf/Qwen3-0.6B/tokenizer.json");
  std::ofstream(root.file("assets/hf/Qwen3-0.6B/config.json"))
      << R"({"model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
             "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151936,
             "rope_theta": 1000000, "max_position_embeddings": 40960, "tie_word_embeddings": true})";
}

// The files of configs/, by name.
std::map<std::string, ParsedJob> shipped(const StubDataRoot& root) {
  write_fine_tuning_files(root);
  std::map<std::string, ParsedJob> jobs;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(QWEN3_SOURCE_DIR) / "configs")) {
    if (entry.path().extension() != ".toml") continue;
    const std::string name = entry.path().filename().string();
    jobs[name] = load_job(read_file(entry.path()), name, root.path(), {}, root.environment());
  }
  return jobs;
}

TEST(ConfigFiles, EveryConfigurationWeShipIsAJob) {
  const StubDataRoot root;
  for (const auto& [name, job] : shipped(root)) {
    EXPECT_THAT(job.errors, IsEmpty()) << name;
    EXPECT_THAT(job.warnings, IsEmpty()) << name;
  }
}

TEST(ConfigFiles, EveryFlavorHasAPretrainingRun) {
  const StubDataRoot root;
  std::set<std::string> flavors;
  for (const auto& [name, job] : shipped(root)) flavors.insert(job.spec.model().flavor());
  for (const ModelShape& shape : spec::flavors()) EXPECT_EQ(flavors.count(shape.flavor), 1u) << shape.flavor;
}

// What `submit --dry-run` tells: the plan must be one that somebody would run.
TEST(ConfigFiles, EveryPlanUsesItsSlotsAndItsStateFitsTheDevices) {
  const StubDataRoot root;
  constexpr int64_t kDeviceBytes = int64_t{80} << 30;  // H100; the debug models run on a host's memory
  for (const auto& [name, job] : shipped(root)) {
    ASSERT_THAT(job.errors, IsEmpty()) << name;
    const RunSpec run = run_spec_from_job(job.spec, root.environment());
    EXPECT_EQ(run.mesh.world_size(), job.spec.resources().slots()) << name;
    EXPECT_EQ(run.global_batch_size % (run.data.local_batch_size * run.mesh.world_size()), 0) << name;
    EXPECT_LE(run.lr_schedule.warmup_steps, run.steps / 5) << name;
    const BytesPerRank bytes = estimate_bytes_per_rank(run);
    // Activations are left out: without recomputation they are most of the bytes, with it a small part.
    EXPECT_LT(bytes.parameters + bytes.gradients + bytes.moments, kDeviceBytes * 9 / 10) << name;
    EXPECT_EQ(checkpoint_bytes(run.model), 12 * parameter_count(run.model)) << name;
    EXPECT_GT(flops_per_token(run.model, run.data.seq_len), 0) << name;
  }
}

TEST(ConfigFiles, TheQuickstartRuns400StepsOf1024TokensOnTwoRanks) {
  const StubDataRoot root;
  const std::string path = std::string(QWEN3_SOURCE_DIR) + "/configs/debugmodel.toml";
  const ParsedJob job = load_job(read_file(path), "debugmodel.toml", root.path(), {}, root.environment());
  ASSERT_THAT(job.errors, IsEmpty());
  const RunSpec run = run_spec_from_job(job.spec, root.environment());
  EXPECT_EQ(run.steps, 400);
  EXPECT_EQ(run.global_batch_size * run.data.seq_len, 1024);
  EXPECT_EQ(run.mesh.world_size(), 2);
  EXPECT_EQ(run.optimizer.lr, 2e-3);
  EXPECT_EQ(run.lr_schedule.warmup_steps, 20);
  EXPECT_EQ(run.lr_schedule.decay_steps, 120);
  EXPECT_TRUE(run.validation.enable);
  EXPECT_TRUE(run.checkpoint.last_save_in_hf);
}

TEST(ConfigFiles, TheFineTuningExampleTrainsResponsesFromAReleasesWeights) {
  const StubDataRoot root;
  write_fine_tuning_files(root);
  const std::string path = std::string(QWEN3_SOURCE_DIR) + "/configs/finetune_0.6B.toml";
  const ParsedJob job = load_job(read_file(path), "finetune_0.6B.toml", root.path(), {}, root.environment());
  ASSERT_THAT(job.errors, IsEmpty());
  const RunSpec run = run_spec_from_job(job.spec, root.environment());
  EXPECT_EQ(run.init_hf_folder, root.path() + "/assets/hf/Qwen3-0.6B");
  EXPECT_EQ(run.data.prompt_key, "prompt");
  EXPECT_EQ(run.data.response_key, "response");
  EXPECT_EQ(run.data.path, root.path() + "/configs/finetune_example.jsonl");
}

TEST(ConfigFiles, AFineTuningRunNeedsItsKeysAndItsLines) {
  const StubDataRoot root;
  const auto errors = [&](const std::string& keys) {
    return load_job("[model]\nflavor = \"debugmodel\"\n[training]\n" + keys, "t.toml", root.path(), {},
                    root.environment())
        .errors;
  };
  EXPECT_THAT(errors("prompt_key = \"q\"\n"),
              ElementsAre("t.toml:4: training.prompt_key is \"q\", but dataset_path names no JSON lines with prompts "
                          "and responses"));
  root.file("pairs.jsonl");
  EXPECT_THAT(
      errors("prompt_key = \"q\"\nresponse_key = \"q\"\ndataset_path = \"pairs.jsonl\"\n"),
      ElementsAre(HasSubstr("t.toml:5: training.response_key is \"q\"; with a prompt_key it must name another")));
}

TEST(ConfigFiles, TorchtitansOwnRunsAreRefusedOnlyForC4) {
  const StubDataRoot root;
  root.file("assets/hf/Qwen3-0.6B/tokenizer.json");
  const ParsedJob job =
      load_job(torchtitan_file("qwen3_0.6b.toml"), "qwen3_0.6b.toml", root.path(), {}, root.environment());
  EXPECT_THAT(job.errors,
              ElementsAre("qwen3_0.6b.toml:34: training.dataset is \"c4\"; C4 is not fetched from the Hugging Face Hub "
                          "here, write dataset_path = \"/path/to/text\" (.txt or .jsonl, also .gz or .zst, or a folder "
                          "of them), or dataset = \"shakespeare\""));
}

TEST(ConfigFiles, WithAnotherDatasetTorchtitansRunLoadsWithWarningsOnly) {
  const StubDataRoot root;
  root.file("assets/hf/Qwen3-0.6B/tokenizer.json");
  const std::string text = replaced(torchtitan_file("qwen3_0.6b.toml"), "\"c4\"", "\"shakespeare\"");
  const ParsedJob job = load_job(text, "t.toml", root.path(), {}, root.environment());
  EXPECT_THAT(job.errors, IsEmpty());
  EXPECT_THAT(job.warnings,
              ElementsAre(HasSubstr("t.toml:3: job.dump_folder"), HasSubstr("metrics.save_tb_folder"),
                          HasSubstr("compile.components"), HasSubstr("quantize.linear.float8.filter_fqns")));
  const RunSpec run = run_spec_from_job(job.spec, root.environment());
  EXPECT_EQ(run.optimizer.lr, 3e-4);
  EXPECT_EQ(run.lr_schedule.decay_steps, 8);
  EXPECT_EQ(run.activation_checkpoint.mode, ActivationCheckpoint::Mode::kSelective);
  EXPECT_THAT(run.activation_checkpoint.kept, ElementsAre("attention", "gate_up"));  // "op"
  EXPECT_EQ(run.data.tokenizer, root.path() + "/assets/hf/Qwen3-0.6B/tokenizer.json");
}

TEST(ConfigFiles, TorchtitansMoeDebugRunParses) {
  const ParsedJob job = parse_toml(torchtitan_file("qwen3_moe_debug.toml"), "moe.toml");
  EXPECT_THAT(job.errors, IsEmpty());
  EXPECT_EQ(job.spec.model().flavor(), "debugmodel_moe");
  EXPECT_EQ(job.spec.training().seq_len(), 4096);
}

}  // namespace
}  // namespace qwen3::spec::config
