#include "client/format/experts.h"

#include <algorithm>
#include <numeric>

namespace qwen3::client {

double worst_expert_load(const v1::MoeReport& report) {
  const auto& layers = report.max_over_mean();
  return layers.empty() ? 0 : *std::max_element(layers.begin(), layers.end());
}

int64_t dead_experts(const v1::MoeReport& report) {
  return std::accumulate(report.dead_experts().begin(), report.dead_experts().end(), int64_t{0});
}

}  // namespace qwen3::client
