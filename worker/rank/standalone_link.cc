#include "worker/rank/standalone_link.h"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <stdexcept>

#include "checkpoint/manifest.h"

namespace qwen3::rank {

void StandaloneLink::store_ready(int port) {}
std::string StandaloneLink::store_address() { throw std::logic_error("a standalone run has one rank"); }
Orders::Word StandaloneLink::word_for(int64_t step) { return Orders::kNone; }

void StandaloneLink::step_done(int64_t step, const StepMetrics* metrics) {
  if (metrics == nullptr) return;
  std::printf("step %lld  loss %.4f  grad norm %.3f  lr %.2e  %.0f tokens/s  %.0f MiB", static_cast<long long>(step),
              metrics->loss, metrics->grad_norm, metrics->lr, metrics->tokens_per_second,
              static_cast<double>(metrics->peak_memory_bytes) / (1 << 20));
  if (metrics->validation_loss) std::printf("  validation loss %.4f", *metrics->validation_loss);
  if (metrics->experts) {
    const ExpertMetrics& experts = *metrics->experts;
    std::printf("  busiest expert %.2f of mean, %lld dead",
                *std::max_element(experts.max_over_mean.begin(), experts.max_over_mean.end()),
                static_cast<long long>(std::accumulate(experts.dead_experts.begin(), experts.dead_experts.end(), 0LL)));
  }
  std::printf("\n");
  std::fflush(stdout);
}

void StandaloneLink::progress(int64_t done, int64_t total, const std::string& unit) {
  std::printf("%lld of %lld %s\n", static_cast<long long>(done), static_cast<long long>(total), unit.c_str());
  std::fflush(stdout);
}

void StandaloneLink::prepared(const internal::v1::PreparedCheckpoint& checkpoint) {
  if (!checkpoint.error().empty()) {
    settled_step_ = checkpoint.step();
    return skipped(checkpoint.step(), checkpoint.error());
  }
  const auto part = checkpoint::from_json(checkpoint.manifest_part());
  if (!part.ok()) throw std::runtime_error(std::string(part.status().message()));
  const auto manifest = checkpoint::merge({*part});
  if (!manifest.ok()) throw std::runtime_error(std::string(manifest.status().message()));
  const absl::Status status = checkpoint::write_manifest(checkpoint.folder(), *manifest);
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  committed_step_ = checkpoint.step();
  settled_step_ = checkpoint.step();
  std::printf("checkpoint of step %lld: %s\n", static_cast<long long>(checkpoint.step()), checkpoint.folder().c_str());
}

void StandaloneLink::skipped(int64_t step, const std::string& reason) {
  std::fprintf(stderr, "checkpoint of step %lld skipped: %s\n", static_cast<long long>(step), reason.c_str());
}

void StandaloneLink::wait_committed(int64_t step) {
  if (committed_step_ < step) throw std::logic_error("a standalone run commits while it prepares");
}

void StandaloneLink::finished(const internal::v1::RunFinished& result) {
  std::printf("done after step %lld: loss %.4f -> %.4f (%s), state %s\n", static_cast<long long>(result.step()),
              result.result().first_loss(), result.result().final_loss(), result.result().final_loss_hex().c_str(),
              result.result().state_digest().c_str());
  if (!result.hf_export().empty()) std::printf("Hugging Face folder: %s\n", result.hf_export().c_str());
}

void StandaloneLink::failed(const internal::v1::RankFailed& failure) {
  std::fprintf(stderr, "qwen3-rank: %s: %s\n", failure.failure().reason().c_str(), failure.failure().message().c_str());
}

}  // namespace qwen3::rank
