#include "coordinator/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/text_serializer.h>

#include "coordinator/names.h"

namespace qwen3::coordinator {
namespace {

constexpr size_t kMaxLiveJobs = 500;  // jobs with gauges of their own

template <class Build>
auto& family(prometheus::Registry& registry, Build build, const char* name, const char* help) {
  return build().Name(name).Help(help).Register(registry);
}

const prometheus::Histogram::BucketBoundaries kWaitBuckets = {0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400};

std::string code_name(absl::StatusCode code) { return absl::StatusCodeToString(code); }

}  // namespace

Metrics::Metrics()
    : rpcs_(family(registry_, prometheus::BuildCounter, "qwen3_rpcs_total", "Answered calls by method and code.")),
      jobs_(family(registry_, prometheus::BuildGauge, "qwen3_jobs", "Jobs by state.")),
      operations_(family(registry_, prometheus::BuildGauge, "qwen3_operations", "Operations by state.")),
      workers_(family(registry_, prometheus::BuildGauge, "qwen3_workers", "Workers by state.")),
      slots_(family(registry_, prometheus::BuildGauge, "qwen3_slots", "Slots of connected workers by use.")),
      job_step_(family(registry_, prometheus::BuildGauge, "qwen3_job_step", "Optimizer steps done by a living job.")),
      job_loss_(family(registry_, prometheus::BuildGauge, "qwen3_job_loss", "Loss of a living job, nats per token.")),
      job_tokens_(family(registry_, prometheus::BuildGauge, "qwen3_job_tokens_per_second",
                         "Tokens per second of a living job over all ranks.")),
      streams_(family(registry_, prometheus::BuildGauge, "qwen3_watch_streams", "Open watch streams.").Add({})),
      queue_wait_(family(registry_, prometheus::BuildHistogram, "qwen3_job_queue_wait_seconds",
                         "Time from acceptance to the first attempt.")
                      .Add({}, kWaitBuckets)) {}

void Metrics::count_rpc(const std::string& method, absl::StatusCode code) {
  rpcs_.Add({{"method", method}, {"code", code_name(code)}}).Increment();
}

void Metrics::observe_queue_wait(absl::Duration wait) { queue_wait_.Observe(absl::ToDoubleSeconds(wait)); }

void Metrics::set_progress(const std::string& job, const v1::Progress& progress) {
  const std::lock_guard lock(mutex_);
  auto known = live_.find(job);
  if (known == live_.end()) {
    if (live_.size() >= kMaxLiveJobs) return;
    const prometheus::Labels labels = {{"job", job_id(job)}};
    known =
        live_.emplace(job, JobGauges{&job_step_.Add(labels), &job_loss_.Add(labels), &job_tokens_.Add(labels)}).first;
  }
  known->second.step->Set(static_cast<double>(progress.step()));
  known->second.loss->Set(progress.loss());
  known->second.tokens_per_second->Set(progress.tokens_per_second());
}

void Metrics::remove_job(const std::string& job) {
  const std::lock_guard lock(mutex_);
  const auto known = live_.find(job);
  if (known == live_.end()) return;
  job_step_.Remove(known->second.step);
  job_loss_.Remove(known->second.loss);
  job_tokens_.Remove(known->second.tokens_per_second);
  live_.erase(known);
}

void Metrics::set_counts(const Counts& counts) {
  for (const auto& [gauges, count] : {std::pair(&jobs_, &counts.jobs), std::pair(&operations_, &counts.operations)}) {
    for (int state = v1::JOB_STATE_QUEUED; state <= v1::JOB_STATE_CANCELLED; ++state) {
      const auto known = count->find(static_cast<v1::JobState>(state));
      gauges->Add({{"state", v1::JobState_Name(static_cast<v1::JobState>(state)).substr(sizeof("JOB_STATE_") - 1)}})
          .Set(known == count->end() ? 0 : static_cast<double>(known->second));
    }
  }
  for (int state = v1::WORKER_STATE_READY; state <= v1::WORKER_STATE_LOST; ++state) {
    const auto known = counts.workers.find(static_cast<v1::WorkerState>(state));
    workers_
        .Add({{"state", v1::WorkerState_Name(static_cast<v1::WorkerState>(state)).substr(sizeof("WORKER_STATE_") - 1)}})
        .Set(known == counts.workers.end() ? 0 : static_cast<double>(known->second));
  }
  slots_.Add({{"use", "free"}}).Set(static_cast<double>(counts.free_slots));
  slots_.Add({{"use", "taken"}}).Set(static_cast<double>(counts.slots - counts.free_slots));
}

void Metrics::set_watchers(size_t streams) { streams_.Set(static_cast<double>(streams)); }

std::string Metrics::serialize() { return prometheus::TextSerializer().Serialize(registry_.Collect()); }

}  // namespace qwen3::coordinator
