// Every mistake in a configuration is answered with file, line and a sentence that says what is wanted.
// Longer than usual: one table of mistakes, each with its whole text and the exact answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "spec/config/load.h"
#include "tests/spec/stub_data_root.h"

namespace qwen3::spec::config {
namespace {

struct BadToml {
  const char* name;
  const char* text;
  std::vector<std::string> answers;  // without "bad.toml:"
};

void PrintTo(const BadToml& bad, std::ostream* out) { *out << bad.name; }

class BadTomlTest : public testing::TestWithParam<BadToml> {};

TEST_P(BadTomlTest, IsAnsweredWithFileLineAndWhatIsWanted) {
  const StubDataRoot root;
  std::vector<std::string> expected;
  for (const std::string& answer : GetParam().answers) expected.push_back("bad.toml:" + answer);
  const ParsedJob job = load_job(GetParam().text, "bad.toml", root.path(), {}, root.environment());
  EXPECT_THAT(job.errors, testing::ElementsAreArray(expected));
}

// Two lines in front of most cases, so that everything else is in order.
#define MODEL "[model]\nflavor = \"debugmodel\"\n"

const BadToml kBadTomls[] = {
    {"SyntaxMissingValue",
     MODEL "[training]\nsteps =\n",
     {"4: not valid TOML: Error while parsing key-value pair: expected value, saw '\\n'"}},
    {"SyntaxUnclosedString",
     MODEL "[job]\ndescription = \"run\n",
     {"4: not valid TOML: Error while parsing string: unescaped control characters other than TAB (U+0009) are "
      "explicitly prohibited; a string ends on its line: is the closing quote missing?"}},
    {"SyntaxUnclosedSection",
     MODEL "[training\nsteps = 1\n",
     {"3: not valid TOML: Error while parsing table header: expected ']', saw '\\n'"}},
    {"SyntaxDuplicateKey",
     MODEL "[training]\nsteps = 1\nsteps = 2\n",
     {"5: not valid TOML: Error while parsing key-value pair: cannot redefine existing integer 'steps'; each key and "
      "each section is written once"}},
    {"SyntaxDuplicateSection",
     MODEL "[training]\nsteps = 1\n[training]\nseq_len = 2\n",
     {"5: not valid TOML: Error while parsing table header: cannot redefine existing table 'training'; each key and "
      "each section is written once"}},
    {"SyntaxBareWord",
     MODEL "[debug]\nordered = yes\n",
     {"4: not valid TOML: Error while parsing value: could not determine value type; write a string in quotes, a "
      "number, true or false"}},
    {"SyntaxIntegerOverflow",
     MODEL "[training]\nsteps = 9223372036854775808\n",
     {"4: not valid TOML: Error while parsing decimal integer: '9223372036854775808' is not representable in 64 bits"}},
    {"SyntaxLeadingZero",
     MODEL "[training]\nsteps = 010\n",
     {"4: not valid TOML: Error while parsing decimal integer: leading zeroes are prohibited"}},
    {"SyntaxNotUtf8",
     MODEL "[job]\ndescription = \"\xff\"\n",
     {"4: not valid TOML: Encountered invalid utf-8 sequence; save the file as UTF-8"}},
    {"UnknownSection",
     MODEL "[trainning]\nsteps = 1\n",
     {"3: unknown section [trainning]; the nearest valid section is [training]"}},
    {"UnknownSectionNested",
     MODEL "[quantise.linear.float8]\nemulate = false\n",
     {"3: unknown section [quantise]; the nearest valid section is [quantize]"}},
    {"UnknownKey",
     MODEL "[training]\nsteps = 400\nlocal_batchsize = 2\n",
     {"5: unknown key \"local_batchsize\" in [training]; the nearest valid key is \"local_batch_size\""}},
    {"UnknownKeyInAnotherSection",
     MODEL "[optimizer]\nseq_len = 128\n",
     {"4: unknown key \"seq_len\" in [optimizer]; it belongs to [training] or [validation]"}},
    {"UnknownKeyOfTorchtitanSection",
     MODEL "[comm]\ninit_timeout = 3\n",
     {"4: unknown key \"init_timeout\" in [comm]; the nearest valid key is \"init_timeout_seconds\""}},
    {"UnknownKeyInANestedSection",
     MODEL "[training.dataloader]\nworkers = 3\n",
     {"4: unknown key \"workers\" in [training.dataloader]; the nearest valid key is \"num_workers\""}},
    {"UnknownSubsection",
     MODEL "[training.data]\nname = \"x\"\n",
     {"3: unknown key \"data\" in [training]; the nearest valid key is \"dataset\""}},
    {"KeyOutsideASection",
     "steps = 5\n[model]\nflavor = \"debugmodel\"\n",
     {"1: key \"steps\" stands outside any section; write it under [training] or [validation]"}},
    {"UnknownKeyOutsideASection",
     "colour = 5\n[model]\nflavor = \"debugmodel\"\n",
     {"1: key \"colour\" stands outside any section; write it under the section it belongs to"}},
    {"SectionIsAValue",
     "training = 5\n[model]\nflavor = \"debugmodel\"\n",
     {"1: training is a section: write [training] and its keys below, got 5"}},
    {"SectionIsAnArray",
     MODEL "[[training]]\nsteps = 5\n",
     {"3: training is a section: write [training] and its keys below, got [[training]]"}},
    {"StringForWholeNumber",
     MODEL "[training]\nsteps = \"400\"\n",
     {"4: training.steps wants a whole number, got the string \"400\""}},
    {"FractionForWholeNumber",
     MODEL "[training]\nsteps = 1e3\n",
     {"4: training.steps wants a whole number, got 1000.0"}},
    {"NumberForString", "[model]\nflavor = 0.6\n", {"2: model.flavor wants a string in quotes, got 0.6"}},
    {"NumberForBool", MODEL "[debug]\nordered = 1\n", {"4: debug.ordered wants true or false, got 1"}},
    {"StringForNumber",
     MODEL "[optimizer]\nlr = \"3e-4\"\n",
     {"4: optimizer.lr wants a finite number, got the string \"3e-4\""}},
    {"BoolForNumber", MODEL "[optimizer]\nlr = true\n", {"4: optimizer.lr wants a finite number, got true"}},
    {"NanForNumber", MODEL "[optimizer]\nlr = nan\n", {"4: optimizer.lr wants a finite number, got nan"}},
    {"InfinityForNumber",
     MODEL "[training]\nmax_norm = inf\n",
     {"4: training.max_norm wants a finite number, got inf"}},
    {"DateForString",
     MODEL "[job]\ndescription = 2026-01-01\n",
     {"4: job.description wants a string in quotes, got a date or time"}},
    {"TableForWholeNumber", MODEL "[training.steps]\nn = 5\n", {"3: training.steps wants a whole number, got a table"}},
    {"StringForArray",
     MODEL "[optimizer]\nno_decay = \"*norm*\"\n",
     {"4: optimizer.no_decay wants an array of strings, got the string \"*norm*\""}},
    {"NumbersInAnArrayOfStrings",
     MODEL "[optimizer]\nno_decay = [\"*norm*\", 5]\n",
     {"4: optimizer.no_decay wants an array of strings, got the array [\"*norm*\", 5]"}},
    {"NegativeSeed", MODEL "[debug]\nseed = -1\n", {"4: debug.seed wants a whole number of at least 0, got -1"}},
    {"Converters",
     MODEL "converters = [\"float8\"]\n",
     {"3: model.converters = [\"float8\"] is refused: low-precision training is not supported yet; use "
      "mixed_precision_param = \"bfloat16\" in [training]"}},
    {"EarlyStep",
     MODEL "[optimizer]\nearly_step_in_backward = true\n",
     {"4: optimizer.early_step_in_backward = true is refused: gradients are clipped by their global norm, which needs "
      "all of them before a step; remove the key"}},
    {"CpuOffload",
     MODEL "[training]\nenable_cpu_offload = true\n",
     {"4: training.enable_cpu_offload = true is refused: offloading to host memory is not supported yet; raise "
      "data_parallel_shard_degree in [parallelism]"}},
    {"Float8Recipe",
     MODEL "[quantize.linear.float8]\nrecipe_name = \"rowwise\"\n",
     {"4: quantize.linear.float8.recipe_name = \"rowwise\" is refused: low-precision training is not supported yet; "
      "use mixed_precision_param = \"bfloat16\" in [training]"}},
    {"FaultTolerance",
     MODEL "[fault_tolerance]\nenable = true\n",
     {"4: fault_tolerance.enable = true is refused: restarts are the service's: a lost rank or worker starts a new "
      "attempt; see [retry]"}},
    {"CustomImport",
     MODEL "[experimental]\ncustom_import = \"my.module\"\n",
     {"4: experimental.custom_import = \"my.module\" is refused: there is no Python in a run, so no module can be "
      "loaded; remove the key"}},
    {"Wandb",
     MODEL "[metrics]\nenable_wandb = true\n",
     {"4: metrics.enable_wandb = true is refused: Weights & Biases is not fed yet; write false, and read metrics with "
      "qwen3ctl metrics"}},
    {"LoadStep",
     MODEL "[checkpoint]\nload_step = 100\n",
     {"4: checkpoint.load_step = 100 is refused: a restart resumes from the last committed checkpoint; to start from "
      "another one name it in initial_load_path"}},
    {"InitialLoadInHf",
     MODEL "[checkpoint]\ninitial_load_in_hf = true\n",
     {"4: checkpoint.initial_load_in_hf = true is refused: write init = \"hf:FOLDER\" in [model] to start from Hugging "
      "Face weights; initial_load_path takes a checkpoint of another job"}},
    {"ValidationDataset",
     MODEL "[validation]\ndataset = \"c4_validation\"\n",
     {"4: validation.dataset = \"c4_validation\" is refused: write dataset_path = \"/path/to/text\", or nothing: then "
      "the last `split` of the training text is held out"}},
    {"MemoryEstimation",
     MODEL "[memory_estimation]\nenable = true\n",
     {"4: memory_estimation.enable = true is refused: the plan shows bytes per rank: qwen3ctl submit --dry-run"}},
    {"NoModel",
     "[training]\nsteps = 5\n",
     {"1: model.flavor is missing; write one of debugmodel, 0.6B, 1.7B, 4B, 8B, 14B, 32B, debugmodel_moe, 30B-A3B, "
      "235B-A22B"}},
    {"EmptyFile",
     "",
     {"1: model.flavor is missing; write one of debugmodel, 0.6B, 1.7B, 4B, 8B, 14B, 32B, debugmodel_moe, 30B-A3B, "
      "235B-A22B"}},
    {"UnknownFlavor",
     "[model]\nflavor = \"0.6b\"\n",
     {"2: model.flavor is \"0.6b\"; it must be one of debugmodel, 0.6B, 1.7B, 4B, 8B, 14B, 32B, debugmodel_moe, "
      "30B-A3B, 235B-A22B"}},
    {"OtherFamily",
     "[model]\nname = \"llama3\"\nflavor = \"8B\"\n",
     {"2: model.name is \"llama3\"; it must be \"qwen3\""}},
    {"NoExperts",
     "[model]\nflavor = \"8B\"\n[moe]\nrouter = \"float16\"\naux_loss_coeff = 1e-3\n",
     {"4: moe.router is \"float16\"; it must be one of \"float32\", \"hf_exact\"",
      "5: moe.aux_loss_coeff is set, but model.flavor \"8B\" has no experts; write 0 or leave it out"}},
    {"C4",
     MODEL "[training]\ndataset = \"c4_test\"\n",
     {"4: training.dataset is \"c4_test\"; C4 is not fetched from the Hugging Face Hub here, write dataset_path = "
      "\"/path/to/text\" (.txt or .jsonl, also .gz or .zst, or a folder of them), or dataset = \"shakespeare\""}},
    {"UnknownDataset",
     MODEL "[training]\ndataset = \"wikipedia\"\n",
     {"4: training.dataset is \"wikipedia\"; the only dataset known by name is \"shakespeare\", write that or "
      "dataset_path = \"/path/to/text\" (.txt or .jsonl, also .gz or .zst, or a folder of them)"}},
    {"MissingDatasetPath",
     MODEL "[training]\ndataset_path = \"/no/such/text.txt\"\n",
     {"4: training.dataset_path /no/such/text.txt does not exist on this machine"}},
    {"Parquet",
     MODEL "[training]\ndataset_path = \"/data/text.parquet\"\n",
     {"4: training.dataset_path is \"/data/text.parquet\"; Parquet is not read, write .jsonl, .txt or either with .gz "
      "or .zst"}},
    {"MissingTokenizer",
     MODEL "tokenizer_path = \"/no/such/tokenizer.json\"\n",
     {"3: model.tokenizer_path: tokenizer /no/such/tokenizer.json does not exist on this machine"}},
    {"NegativeSteps", MODEL "[training]\nsteps = -5\n", {"4: training.steps is -5; it must be at least 1"}},
    {"ZeroLocalBatch",
     MODEL "[training]\nlocal_batch_size = 0\n",
     {"4: training.local_batch_size is 0; it must be at least 1"}},
    {"GlobalBatchNotAMultiple",
     MODEL "[training]\nlocal_batch_size = 4\nglobal_batch_size = 12\n[resources]\nslots = 2\n",
     {"5: training.global_batch_size is 12; it must be a positive multiple of local_batch_size 4 * 2 data-parallel "
      "ranks = 8"}},
    {"SequenceTooLong",
     MODEL "[training]\nseq_len = 8192\n",
     {"4: training.seq_len is 8192, but model.flavor \"debugmodel\" takes at most 4096 tokens"}},
    {"NegativeLearningRate",
     MODEL "[optimizer]\nlr = -1e-3\n",
     {"4: optimizer.lr is -0.001; it must be a finite number of at least 0"}},
    {"Beta", MODEL "[optimizer]\nbeta2 = 1.0\n", {"4: optimizer.beta2 is 1; it must be at least 0 and below 1"}},
    {"UnknownOptimizer",
     MODEL "[optimizer]\nname = \"Adam\"\n",
     {"4: optimizer.name is \"Adam\"; it must be \"AdamW\""}},
    {"WarmUpLongerThanTheRun",
     MODEL "[training]\nsteps = 10\n[lr_scheduler]\nwarmup_steps = 200\n",
     {"6: lr_scheduler.warmup_steps is 200, but the schedule has only 10 steps"}},
    {"WarmUpAndDecayLongerThanTheRun",
     MODEL "[training]\nsteps = 100\n[lr_scheduler]\nwarmup_steps = 30\ndecay_ratio = 0.8\n",
     {"7: lr_scheduler: 30 steps of warm-up + 80 of decay (decay_ratio) = 110, but the schedule has only 100"}},
    {"DecayRatio",
     MODEL "[lr_scheduler]\ndecay_ratio = 30\n",
     {"4: lr_scheduler.decay_ratio is 30; it must be between 0 and 1, a share of total_steps"}},
    {"DecayType",
     MODEL "[lr_scheduler]\ndecay_type = \"exponential\"\n",
     {"4: lr_scheduler.decay_type is \"exponential\"; it must be one of \"linear\", \"sqrt\", \"cosine\""}},
    {"Bfloat16Masters",
     MODEL "[training]\ndtype = \"bfloat16\"\n",
     {"4: training.dtype is \"bfloat16\"; it must be \"float32\""}},
    {"Float16Compute",
     MODEL "[training]\nmixed_precision_param = \"float16\"\n",
     {"4: training.mixed_precision_param is \"float16\"; it must be one of \"auto\", \"bfloat16\", \"float32\""}},
    {"DegreesAndSlots",
     MODEL "[parallelism]\ndata_parallel_shard_degree = 6\n[resources]\nslots = 8\n",
     {"3: parallelism: dp_replicate 1 * dp_shard 6 * cp 1 * tp 1 * pp 1 = 6, but resources.slots is 8"}},
    {"NoSlots", MODEL "[resources]\nslots = 0\n", {"4: resources.slots is 0; it must be at least 1, one rank each"}},
    {"TensorParallel",
     MODEL "[parallelism]\ntensor_parallel_degree = 16\n[resources]\nslots = 16\n",
     {"4: parallelism.tensor_parallel_degree is 16; it must divide the 8 key-value heads of model.flavor "
      "\"debugmodel\""}},
    {"PipelineParallel",
     MODEL "[parallelism]\npipeline_parallel_degree = 2\n[resources]\nslots = 2\n",
     {"4: parallelism.pipeline_parallel_degree is 2, but pipeline parallelism is not supported yet; it must be 1 "
      "(the data, tensor and expert degrees are supported)"}},
    {"ContextParallel",
     MODEL "[parallelism]\ncontext_parallel_degree = 2\n[resources]\nslots = 2\n",
     {"4: parallelism.context_parallel_degree is 2, but context parallelism is not supported yet; it must be 1 "
      "(the data, tensor and expert degrees are supported)"}},
    {"ExpertParallel",
     MODEL "[parallelism]\nexpert_parallel_degree = 2\n",
     {"4: parallelism.expert_parallel_degree is 2, but model.flavor \"debugmodel\" has no experts; it must be 1"}},
    {"ZeroDegree",
     MODEL "[parallelism]\ndata_parallel_replicate_degree = 0\n",
     {"4: parallelism.data_parallel_replicate_degree is 0; it must be at least 1"}},
    {"KeepOneCheckpoint",
     MODEL "[checkpoint]\nkeep_latest_k = 1\n",
     {"4: checkpoint.keep_latest_k is 1: the only checkpoint would be pruned while the next is being written; write 2 "
      "or more, or 0 to keep all"}},
    {"CheckpointInterval",
     MODEL "[checkpoint]\ninterval = 0\n",
     {"4: checkpoint.interval is 0; it must be at least 1"}},
    {"CheckpointFolderOutside",
     MODEL "[checkpoint]\nfolder = \"../other\"\n",
     {"4: checkpoint.folder is \"../other\"; it must be a relative path without \"..\", inside the service's "
      "checkpoint root"}},
    {"AsyncMode",
     MODEL "[checkpoint]\nasync_mode = \"async_with_pinned_mem\"\n",
     {"4: checkpoint.async_mode is \"async_with_pinned_mem\"; it must be one of \"async\", \"disabled\""}},
    {"ExportDtype",
     MODEL "[checkpoint]\nexport_dtype = \"fp16\"\n",
     {"4: checkpoint.export_dtype is \"fp16\"; it must be one of \"float32\", \"bfloat16\", \"float16\""}},
    {"InitialLoadPath",
     MODEL "[checkpoint]\ninitial_load_path = \"/no/such/step-100\"\n",
     {"4: checkpoint.initial_load_path /no/such/step-100 does not exist on this machine"}},
    {"ActivationCheckpointMode",
     MODEL "[activation_checkpoint]\nmode = \"half\"\n",
     {"4: activation_checkpoint.mode is \"half\"; it must be one of \"none\", \"full\", \"selective\", "
      "\"memory_budget\""}},
    {"SelectiveEveryTooMany",
     MODEL "[activation_checkpoint]\nmode = \"selective\"\nselective_ac_option = \"9\"\n",
     {"5: activation_checkpoint.selective_ac_option is 9; it must be at most 8"}},
    {"SelectiveResultThatNoBlockHas",
     MODEL "[activation_checkpoint]\nmode = \"selective\"\nselective_ac_option = \"attention, mlp\"\n",
     {"5: activation_checkpoint.selective_ac_option names \"mlp\", but a block of model.flavor \"debugmodel\" has the "
      "results qkv, attention, attention_residual, gate_up, mlp_residual; write some of them, a number or \"op\""}},
    {"MemoryBudget",
     MODEL "[activation_checkpoint]\nmode = \"memory_budget\"\nmemory_budget = 1.5\n",
     {"5: activation_checkpoint.memory_budget is 1.5; it must be between 0 (as mode = \"full\") and 1 (as mode = "
      "\"none\")"}},
    {"OrderedInBfloat16",
     MODEL "[training]\nmixed_precision_param = \"bfloat16\"\n[debug]\nordered = true\n",
     {"4: debug.ordered needs float32: set training.mixed_precision_param to \"float32\" or \"auto\""}},
    {"OrderedOnThreeRanks",
     MODEL "[debug]\nordered = true\n[resources]\nslots = 3\n",
     {"6: parallelism.data_parallel_shard_degree is 3, but debug.ordered needs a power of two"}},
    {"OrderedWithThreads",
     MODEL "[debug]\nordered = true\n[resources]\nthreads_per_rank = 2\n",
     {"6: resources.threads_per_rank is 2, but debug.ordered needs 1 thread a rank; write 1 or leave it out"}},
    {"ValidationSplit",
     MODEL "[validation]\nsplit = 0.9\n",
     {"4: validation.split is 0.9; it must be above 0 and at most 0.5"}},
    {"Retries", MODEL "[retry]\nmax_infra_retries = -1\n", {"4: retry.max_infra_retries is -1; it must be at least 0"}},
    {"ManyAtOnce",
     "[model]\nflavour = \"debugmodel\"\n[training]\nsteps = \"ten\"\nseq_len = -1\n[optimizer]\nlr = "
     "inf\n[checkpoint]\nkeep_latest_k = 1\n",
     {"1: model.flavor is missing; write one of debugmodel, 0.6B, 1.7B, 4B, 8B, 14B, 32B, debugmodel_moe, 30B-A3B, "
      "235B-A22B",
      "2: unknown key \"flavour\" in [model]; the nearest valid key is \"flavor\"",
      "4: training.steps wants a whole number, got the string \"ten\"",
      "5: training.seq_len is -1; it must be at least 1", "7: optimizer.lr wants a finite number, got inf",
      "9: checkpoint.keep_latest_k is 1: the only checkpoint would be pruned while the next is being written; write 2 "
      "or more, or 0 to keep all"}},
};

#undef MODEL

INSTANTIATE_TEST_SUITE_P(Each, BadTomlTest, testing::ValuesIn(kBadTomls),
                         [](const testing::TestParamInfo<BadToml>& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace qwen3::spec::config
