// Every series a step reports. The trainer fills this; it knows no wire format.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace qwen3::rank {

// How evenly a mixture of experts was used in one step, over all its tokens and ranks.
struct ExpertMetrics {
  double auxiliary_loss = 0;          // the auxiliary losses' part of the objective, nats
  std::vector<double> max_over_mean;  // by layer: tokens of the busiest expert / of an average one
  std::vector<double> entropy;        // by layer: of the distribution of tokens / its greatest value, 0..1
  std::vector<int64_t> dead_experts;  // by layer: experts without a token
};

// Where a step's seconds went on this rank; the parts add up to StepMetrics::seconds.
struct StepSplit {
  double compute = 0;                   // forward and backward, less what they waited for peers
  double optimizer = 0;                 // gradient norm, clipping, AdamW
  double data = 0;                      // making the microbatches
  double other = 0;                     // agreeing on the step, totals, bookkeeping
  std::map<std::string, double> waits;  // by mesh axis: waiting for its peers, where no computation hid it
};

struct StepMetrics {
  int64_t step = 0;                       // optimizer step, from 1
  double loss = 0;                        // mean over the global batch's valid tokens, nats
  double grad_norm = 0;                   // over all axes, before clipping
  double lr = 0;                          // of this step
  int64_t valid_tokens = 0;               // of this step, over all ranks; labels != -100
  double seconds = 0;                     // wall time of the step
  double tokens_per_second = 0;           // all tokens of the step over all ranks / seconds
  double mfu = 0;                         // model FLOPs / (peak FLOPs * seconds), 0..1; 0: peak not known
  int64_t peak_memory_bytes = 0;          // tensor bytes of this rank, since the start
  StepSplit split;                        // of this step
  StepSplit mean_split;                   // over the steps of this attempt so far
  std::optional<double> validation_loss;  // nats per valid token, on steps that validated
  std::optional<ExpertMetrics> experts;   // of a mixture of experts
  std::string state_digest;               // after the step, where one was asked for
};

}  // namespace qwen3::rank
