#include "worker/rank/evaluation_input.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include "checkpoint/manifest.h"
#include "worker/rank/data/tokens_file.h"

namespace qwen3::rank {
namespace {

constexpr int64_t kDefaultLength = 512;  // tokens of a sequence of text

template <typename T>
T value_or_throw(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(std::string(value.status().message()));
  return *std::move(value);
}

EvaluationModel native(const std::string& folder, const spec::config::Environment& environment) {
  EvaluationModel model{.source = value_or_throw(checkpoint::open_native_source(folder)), .name = folder};
  const checkpoint::Manifest manifest = value_or_throw(checkpoint::read_manifest(folder));
  model.step = manifest.run.step;
  v1::JobSpec job;
  google::protobuf::util::JsonParseOptions lenient;
  lenient.ignore_unknown_fields = true;  // of a newer build
  if (google::protobuf::util::JsonStringToMessage(manifest.run.spec_json, &job, lenient).ok() && job.has_model()) {
    spec::config::fill_defaults(job);
    const spec::RunSpec run = spec::config::run_spec_from_job(job, environment);
    model.tokenizer = run.data.tokenizer;
    model.moe = run.moe;
    model.moe.force_load_balance = false;  // a benchmark's routing says nothing of the model
  }
  return model;
}

std::shared_ptr<const data::Dataset> open_text(const v1::EvaluationSpec& evaluation, const EvaluationModel& model,
                                               const spec::config::Environment& environment) {
  data::OpenOptions options;
  options.data.path = evaluation.text_path();
  options.data.tokenizer = evaluation.tokenizer_path().empty() ? model.tokenizer : evaluation.tokenizer_path();
  if (options.data.tokenizer.empty()) {
    throw std::runtime_error("evaluation of text: " + model.name + " names no tokenizer; give tokenizer_path");
  }
  options.vocab = model.source->model().vocab;
  options.cache_folder = environment.data_root + "/tokens";
  options.progress = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  const int64_t longest = model.source->model().max_seq_len;
  options.data.seq_len = evaluation.seq_len();
  if (options.data.seq_len == 0) {
    options.data.seq_len = 1;  // to count: a text that is shorter than the default is one sequence
    options.data.seq_len = std::min(kDefaultLength, data::open(options).train->tokens());
    if (longest > 0) options.data.seq_len = std::min(options.data.seq_len, longest);
  }
  if (longest > 0 && options.data.seq_len > longest) {
    throw std::runtime_error("evaluation: seq_len is " + std::to_string(options.data.seq_len) +
                             ", the model takes at most " + std::to_string(longest));
  }
  return data::open(options).train;
}

}  // namespace

EvaluationModel open_evaluation_model(const v1::ModelSource& source, const spec::config::Environment& environment) {
  switch (source.source_case()) {
    case v1::ModelSource::kNative:
      return native(source.native(), environment);
    case v1::ModelSource::kHf: {
      const std::string tokenizer = source.hf() + "/tokenizer.json";
      return {.source = value_or_throw(checkpoint::open_hf_source(source.hf())),
              .name = source.hf(),
              .tokenizer = std::filesystem::exists(tokenizer) ? tokenizer : ""};
    }
    default:
      throw std::runtime_error("evaluation: the model is neither a Hugging Face folder nor a native checkpoint's");
  }
}

EvaluationData open_evaluation_data(const v1::EvaluationSpec& evaluation, const EvaluationModel& model,
                                    const spec::config::Environment& environment) {
  EvaluationData data;
  data.batch = std::max<int64_t>(evaluation.local_batch_size(), 1);
  const bool text = evaluation.data_case() == v1::EvaluationSpec::kTextPath;
  if (text) {
    data.dataset = open_text(evaluation, model, environment);
  } else if (evaluation.data_case() == v1::EvaluationSpec::kTokensFile) {
    const spec::ModelShape& shape = model.source->model();
    data.dataset =
        data::open_tokens_file(evaluation.tokens_file(), {.vocab = shape.vocab, .longest = shape.max_seq_len});
  } else {
    throw std::runtime_error("evaluation: neither a tokens file nor a text is given");
  }
  const int64_t sequences = data.dataset->sequences();
  data.length = data.dataset->tokens() / sequences;
  data.microbatches = (sequences + data.batch - 1) / data.batch;
  if (text && evaluation.steps() > 0) data.microbatches = std::min(data.microbatches, evaluation.steps());
  return data;
}

}  // namespace qwen3::rank
