#include "spec/config/toml.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include "spec/config/keys.h"
#include "spec/config/load.h"
#include "tests/spec/stub_data_root.h"

namespace qwen3::spec::config {
namespace {

using google::protobuf::FieldDescriptor;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Text that sets every field of JobSpec, made from the message itself: a field whose type the reader forgot is an
// error.
TEST(Toml, EveryFieldOfTheMessageCanBeWritten) {
  std::string text;
  int fields = 0;
  const auto* job = v1::JobSpec::descriptor();
  for (int i = 0; i < job->field_count(); ++i) {
    text += "[" + job->field(i)->name() + "]\n";
    const auto* section = job->field(i)->message_type();
    for (int j = 0; j < section->field_count(); ++j, ++fields) {
      const FieldDescriptor* field = section->field(j);
      const bool is_string = field->cpp_type() == FieldDescriptor::CPPTYPE_STRING;
      const bool is_bool = field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL;
      text += field->name() + " = " +
              (field->is_repeated() ? "[\"x\"]"
               : is_string          ? "\"x\""
               : is_bool            ? "true"
                                    : "7") +
              "\n";
    }
  }
  const ParsedJob parsed = parse_toml(text, "all.toml");
  EXPECT_THAT(parsed.errors, IsEmpty());
  int set = 0;
  for (int i = 0; i < job->field_count(); ++i) {
    const auto& section = parsed.spec.GetReflection()->GetMessage(parsed.spec, job->field(i));
    std::vector<const FieldDescriptor*> present;
    section.GetReflection()->ListFields(section, &present);
    set += static_cast<int>(present.size());
  }
  EXPECT_EQ(set, fields);
}

TEST(Toml, OnlyWhatIsWrittenIsSet) {
  const ParsedJob job = parse_toml("[optimizer]\nlr = 1\n", "x.toml");
  EXPECT_EQ(job.spec.optimizer().lr(), 1.0);  // a whole number is a number
  EXPECT_FALSE(job.spec.optimizer().has_beta1());
  EXPECT_FALSE(job.spec.has_training());
}

TEST(Toml, PlacesAreLines) {
  const ParsedJob job = parse_toml("# comment\n[model]\nflavor = \"8B\"\n\n[training]\nsteps = 5\n", "x.toml");
  EXPECT_EQ(job.locate("training.steps"), "x.toml:6");
  EXPECT_EQ(job.locate("training.seq_len"), "x.toml:5");  // absent: its section
  EXPECT_EQ(job.locate("optimizer.lr"), "x.toml:1");      // no such section: the file
  EXPECT_EQ(job.locate("parallelism"), "x.toml:1");
}

TEST(Toml, AMeshNobodyWroteIsBlamedOnTheSlots) {
  const ParsedJob job = parse_toml("[resources]\nslots = 3\n", "x.toml");
  EXPECT_EQ(job.locate("parallelism.data_parallel_shard_degree"), "x.toml:2");
}

TEST(Toml, OverridesWinAndAreNamedAsThePlace) {
  const ParsedJob job = parse_toml("[training]\nsteps = 5\nseq_len = 16\n", "x.toml",
                                   {"training.steps=7", "model.flavor=0.6B", "optimizer.no_decay=[\"*norm*\"]",
                                    "job.description=a = b", "model.hf_assets_path=\"/quoted\"", "debug.ordered=true"});
  EXPECT_THAT(job.errors, IsEmpty());
  EXPECT_EQ(job.spec.training().steps(), 7);
  EXPECT_EQ(job.spec.training().seq_len(), 16);
  EXPECT_EQ(job.spec.model().flavor(), "0.6B");
  EXPECT_THAT(job.spec.optimizer().no_decay(), ElementsAre("*norm*"));
  EXPECT_EQ(job.spec.job().description(), "a = b");
  EXPECT_EQ(job.spec.model().hf_assets_path(), "/quoted");
  EXPECT_TRUE(job.spec.debug().ordered());
  EXPECT_EQ(job.locate("training.steps"), "--set training.steps=7");
  EXPECT_EQ(job.locate("training.seq_len"), "x.toml:3");
}

TEST(Toml, AStringFieldTakesAnOverrideThatLooksLikeANumber) {
  EXPECT_EQ(parse_toml("", "x.toml", {"job.description=42"}).spec.job().description(), "42");
}

TEST(Toml, BadOverridesAreErrorsThatNameThem) {
  EXPECT_THAT(
      parse_toml("", "x.toml", {"training.steps=many", "training.stepz=1", "steps=5", "training.steps"}).errors,
      ElementsAre("--set training.steps=many: training.steps wants a whole number, got the string \"many\"",
                  "--set training.stepz=1: unknown key \"stepz\" in [training]; the nearest valid key is \"steps\"",
                  "--set steps=5: wanted section.key=value", "--set training.steps: wanted section.key=value"));
}

TEST(Toml, AValueThatSwitchesARefusedFeatureOffIsAcceptedInSilence) {
  const ParsedJob job = parse_toml(
      "[model]\nconverters = []\n[training]\nenable_cpu_offload = false\n[parallelism]\nexpert_tensor_parallel_degree "
      "= 1\n"
      "[quantize.grouped_mm.mx]\nrecipe_name = \"mxfp8\"\nfqns = []\n",
      "x.toml");
  EXPECT_THAT(job.errors, IsEmpty());
  EXPECT_THAT(job.warnings, IsEmpty());
}

TEST(Toml, AKeyWithoutEffectIsAWarningThatSaysWhy) {
  EXPECT_THAT(parse_toml("[training]\ngc_freq = 50\n", "x.toml").warnings,
              ElementsAre("x.toml:2: training.gc_freq = 50 has no effect: there is no garbage collector to run"));
}

TEST(Toml, EveryKeyOfTorchtitansTableIsAcceptedOrRefusedNeverUnknown) {
  for (const TorchtitanKey& key : torchtitan_keys()) {
    const std::string path(key.path);
    const size_t dot = path.rfind('.');
    const ParsedJob job =
        parse_toml("[" + path.substr(0, dot) + "]\n" + path.substr(dot + 1) + " = \"odd\"\n", "x.toml");
    if (key.use == KeyUse::kRefused) {
      EXPECT_THAT(job.errors, ElementsAre(HasSubstr(path + " = \"odd\" is refused: "))) << path;
      EXPECT_THAT(job.warnings, IsEmpty()) << path;
    } else {
      EXPECT_THAT(job.errors, IsEmpty()) << path;
      EXPECT_THAT(job.warnings, ElementsAre(HasSubstr(path + " = \"odd\" has no effect: "))) << path;
    }
  }
}

TEST(Toml, AfterASyntaxErrorNothingElseIsSaid) {
  const StubDataRoot root;
  const ParsedJob job = load_job("[model\n", "x.toml", root.path(), {}, root.environment());
  EXPECT_TRUE(job.syntax_error);
  EXPECT_EQ(job.errors.size(), 1u);
}

}  // namespace
}  // namespace qwen3::spec::config
