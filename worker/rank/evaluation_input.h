// What an evaluation reads: the weights of its model source and the sequences it is evaluated on.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "checkpoint/tensor_source.h"
#include "qwen3/v1/task.pb.h"
#include "spec/config/job_spec.h"
#include "worker/rank/data/dataset.h"

namespace qwen3::rank {

struct EvaluationModel {
  std::unique_ptr<checkpoint::TensorSource> source;
  std::string name;       // for messages: its folder
  std::string tokenizer;  // path; empty: the source names none
  spec::MoeSpec moe;      // how the job routed; a Hugging Face folder: as transformers, in float32
  int64_t step = 0;       // optimizer steps done; 0 for a Hugging Face folder
};
// Throws std::runtime_error that names the folder.
EvaluationModel open_evaluation_model(const v1::ModelSource& source, const spec::config::Environment& environment);

struct EvaluationData {
  std::shared_ptr<const data::Dataset> dataset;
  int64_t batch = 1;         // sequences of a microbatch
  int64_t microbatches = 0;  // over all ranks; the last may reach past the dataset's end
  int64_t length = 0;        // tokens of a sequence
};
// Throws std::runtime_error that names the file and what is wrong with it.
EvaluationData open_evaluation_data(const v1::EvaluationSpec& evaluation, const EvaluationModel& model,
                                    const spec::config::Environment& environment);

}  // namespace qwen3::rank
