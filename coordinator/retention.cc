#include "coordinator/retention.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace qwen3::coordinator {
namespace {

bool older(const google::protobuf::Timestamp& a, const google::protobuf::Timestamp& b) {
  return std::pair(a.seconds(), a.nanos()) < std::pair(b.seconds(), b.nanos());
}

}  // namespace

std::vector<int64_t> to_prune(std::vector<int64_t> committed, const Keep& keep, const std::map<int64_t, double>& losses,
                              const std::set<int64_t>& in_use) {
  std::vector<int64_t> prune;
  if (keep.latest <= 0) return prune;
  std::ranges::sort(committed);
  std::vector<std::pair<double, int64_t>> ranking;  // best first
  for (size_t i = 0; i + keep.latest < committed.size(); ++i) {
    prune.push_back(committed[i]);
    if (const auto loss = losses.find(committed[i]); loss != losses.end()) {
      ranking.emplace_back(loss->second, -committed[i]);
    }
  }
  std::ranges::sort(ranking);
  std::set<int64_t> kept = in_use;
  for (size_t i = 0; i < ranking.size() && static_cast<int64_t>(i) < keep.best; ++i) kept.insert(-ranking[i].second);
  std::erase_if(prune, [&](int64_t step) { return kept.contains(step); });
  return prune;
}

std::map<int64_t, double> comparable_losses(const std::map<int64_t, v1::Checkpoint>& checkpoints) {
  const v1::CheckpointEvaluation* newest = nullptr;
  for (const auto& [step, checkpoint] : checkpoints) {
    for (const v1::CheckpointEvaluation& evaluation : checkpoint.evaluations()) {
      if (newest == nullptr || !older(evaluation.end_time(), newest->end_time())) newest = &evaluation;
    }
  }
  std::map<int64_t, double> losses;
  if (newest == nullptr) return losses;
  for (const auto& [step, checkpoint] : checkpoints) {
    const v1::CheckpointEvaluation* last = nullptr;
    for (const v1::CheckpointEvaluation& evaluation : checkpoint.evaluations()) {
      if (evaluation.data() != newest->data()) continue;
      if (last == nullptr || !older(evaluation.end_time(), last->end_time())) last = &evaluation;
    }
    if (last != nullptr && !std::isnan(last->result().loss())) losses[step] = last->result().loss();
  }
  return losses;
}

}  // namespace qwen3::coordinator
