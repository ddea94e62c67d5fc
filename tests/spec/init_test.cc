// `[model] init = "hf:FOLDER"`: config.json decides the model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "spec/config/job_spec.h"
#include "spec/config/load.h"
#include "tests/spec/stub_data_root.h"

namespace qwen3::spec::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class InitTest : public ::testing::Test {
 protected:
  InitTest() : folder_(root_.path() + "/hf") {
    std::filesystem::create_directories(folder_);
    write("config.json", R"({"model_type": "qwen3", "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
      "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 96, "vocab_size": 777, "rope_theta": 5e5,
      "max_position_embeddings": 4096, "tie_word_embeddings": true})");
    write("tokenizer.json", "{}");
  }
  void write(const std::string& name, const std::string& text) { std::ofstream(folder_ + "/" + name) << text; }
  ParsedJob load(const std::string& model) {
    return load_job(absl::StrCat("[model]\n", model, "\n"), "x.toml", root_.path(), {}, root_.environment());
  }

  StubDataRoot root_;
  std::string folder_;
};

TEST_F(InitTest, TheFoldersConfigDecidesTheModelAndBringsItsTokenizer) {
  const ParsedJob job = load("init = \"hf:hf\"");
  EXPECT_THAT(job.errors, IsEmpty());
  EXPECT_EQ(job.spec.model().init(), "hf:" + folder_);  // absolute, for other hosts
  const RunSpec run = run_spec_from_job(job.spec, root_.environment());
  EXPECT_EQ(run.init_hf_folder, folder_);
  EXPECT_EQ(run.model.dim, 48);
  EXPECT_EQ(run.model.head_dim, 32);
  EXPECT_EQ(run.model.vocab, 777);
  EXPECT_EQ(run.model.rope_theta, 5e5);
  EXPECT_TRUE(run.model.tied);
  EXPECT_EQ(run.model.flavor, "custom");
  EXPECT_EQ(run.data.tokenizer, folder_ + "/tokenizer.json");
}

TEST_F(InitTest, RandomWeightsAreTheDefault) {
  const ParsedJob job = load("flavor = \"debugmodel\"");
  EXPECT_THAT(job.errors, IsEmpty());
  EXPECT_EQ(job.spec.model().init(), "random");
  EXPECT_EQ(run_spec_from_job(job.spec, root_.environment()).init_hf_folder, "");
}

TEST_F(InitTest, AFlavorOfOtherSizesIsRefusedWithBoth) {
  EXPECT_THAT(
      load("init = \"hf:hf\"\nflavor = \"debugmodel\"").errors,
      ElementsAre(absl::StrCat("x.toml:3: model.flavor is \"debugmodel\" (dim 256, 8 layers, 16/8 heads, ffn 3072, "
                               "vocabulary 2048, tied), but ",
                               folder_,
                               "/config.json says dim 48, 3 layers, 4/2 heads, ffn 96, vocabulary 777, "
                               "tied; leave it out")));
}

TEST_F(InitTest, MistakesNameTheKeyOrTheFile) {
  EXPECT_THAT(load("flavor = \"debugmodel\"\ninit = \"zeros\"").errors,
              ElementsAre("x.toml:3: model.init is \"zeros\"; it must be \"random\" or \"hf:FOLDER\""));
  EXPECT_THAT(load("init = \"hf:none\"\ntokenizer_path = \"hf/tokenizer.json\"").errors,
              ElementsAre(absl::StrCat("x.toml:2: model.init: ", root_.path(),
                                       "/none/config.json does not exist on this machine")));
  EXPECT_THAT(load("init = \"hf:hf\"\nvocab_size = 5").errors, ElementsAre(HasSubstr("model.vocab_size is 5, but ")));
  EXPECT_THAT(load("init = \"hf:hf\"\n[checkpoint]\ninitial_load_path = \"hf\"").errors,
              ElementsAre(HasSubstr("checkpoint.initial_load_path and model.init both say")));
  std::filesystem::remove(folder_ + "/tokenizer.json");
  EXPECT_THAT(load("init = \"hf:hf\"").errors, ElementsAre(HasSubstr("model.init: tokenizer ")));
  write("config.json", R"({"model_type": "qwen3", "hidden_act": "gelu"})");
  EXPECT_THAT(load("init = \"hf:hf\"\ntokenizer_path = \"hf/config.json\"").errors,
              ::testing::Contains(HasSubstr("/config.json: hidden_act is \"gelu\"; supported is \"silu\"")));
}

}  // namespace
}  // namespace qwen3::spec::config
