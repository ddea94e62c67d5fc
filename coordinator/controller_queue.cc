// Controller: the queue, and the slots it hands out.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/controller.h"
#include "coordinator/job_state.h"
#include "coordinator/names.h"
#include "coordinator/retry_budget.h"

namespace qwen3::coordinator {

// First in, first out. The first job that the present workers could hold, but not now, keeps its place: nothing behind
// it starts. A job that waits to be tried again keeps the slots it would get. A job that is larger than everything
// connected waits without holding up the others, and so does a conversion, which takes no slot.
void Controller::schedule(absl::Time now) {
  const JobRun* head = nullptr;
  std::vector<WorkerSlots> slots = free_slots(now);
  const std::string resting = resting_workers(now);
  schedule_at_ = absl::InfiniteFuture();
  for (const auto& [id, worker] : workers_) {
    if (worker.rest_until > now) schedule_at_ = std::min(schedule_at_, worker.rest_until);
  }
  for (auto& [number, job] : jobs_) {
    if (!waits_for_slots(job.stored.job().state()) || job.attempt) continue;
    const bool slotless = job.stored.task().has_conversion();
    if (!slotless && head != nullptr) {
      job.pending_reason = "WAITING_IN_QUEUE";
      job.pending_message = absl::StrCat("waits behind ", head->stored.job().name());
      continue;
    }
    absl::StatusOr<std::vector<Place>> places = std::vector<Place>();
    if (!slotless) {
      places = allocate(world_size(job), slots, job.previous);
    } else if (auto place = allocate_without_slot(slots); place.ok()) {
      places->push_back(*std::move(place));
    } else {
      places = place.status();
    }
    if (places.ok()) {
      take(*places, slots);
      if (now < job.not_before) {
        schedule_at_ = std::min(schedule_at_, job.not_before);
        const int32_t attempts = job.stored.attempts_without_progress();
        job.pending_reason = "WAITING_TO_RETRY";
        job.pending_message = absl::StrCat(attempts, " attempts in a row made no progress, the next one waits ",
                                           absl::FormatDuration(retry_delay(attempts)),
                                           "; the last one: ", job.stored.job().failure().message());
        continue;
      }
      job.pending_reason.clear();
      job.pending_message.clear();
      start_attempt(job, *places, now);
      continue;
    }
    job.pending_message = absl::StrCat(absl::string_view(places.status().message()), resting);
    if (absl::IsFailedPrecondition(places.status())) {
      job.pending_reason = "WAITING_FOR_WORKERS";
    } else {
      job.pending_reason = "WAITING_FOR_SLOTS";
      if (!slotless) head = &job;
    }
  }
}

// `worker` declined an attempt, or a rank died on it before it worked: the next attempts may go elsewhere.
void Controller::blame(const std::string& worker, bool declined, const std::string& error, absl::Time now) {
  const auto known = workers_.find(worker);
  if (known == workers_.end()) return;
  WorkerRun& run = known->second;
  ++run.faults;
  run.fault = error;
  run.rest_until = now + rest_after(run.faults, declined);
}

// What a job that waits is to know of them, to be appended to a sentence.
std::string Controller::resting_workers(absl::Time now) const {
  std::string text;
  for (const auto& [id, worker] : workers_) {
    if (worker.session == 0 || worker.rest_until <= now) continue;
    absl::StrAppend(&text, "; ", worker_name(id), " rests after ", worker.faults,
                    worker.faults == 1 ? " fault: " : " faults in a row: ", worker.fault);
  }
  return text;
}

std::map<std::pair<std::string, int32_t>, std::pair<std::string, int32_t>> Controller::used_slots() const {
  std::map<std::pair<std::string, int32_t>, std::pair<std::string, int32_t>> used;  // (worker, slot) -> (job, rank)
  for (const auto& [number, job] : jobs_) {
    if (!job.attempt) continue;
    for (const auto& [worker, slots] : job.attempt->parts) {
      for (const internal::v1::RankSlot& slot : slots) {
        if (slot.slot() != kNoSlot) used[{worker, slot.slot()}] = {job.stored.job().name(), slot.rank()};
      }
    }
  }
  return used;
}

std::vector<WorkerSlots> Controller::free_slots(absl::Time now) const {
  const auto used = used_slots();
  std::vector<WorkerSlots> all;
  for (const auto& [id, worker] : workers_) {
    if (worker.session == 0) continue;
    WorkerSlots slots{.worker = id,
                      .device_kind = worker.hello.device_kind(),
                      .build_id = worker.hello.build_id(),
                      .slots = worker.hello.slots(),
                      .resting = worker.rest_until > now};
    for (int32_t slot = 0; slot < worker.hello.slots() && !slots.resting; ++slot) {
      if (!used.contains({id, slot})) slots.free.push_back(slot);
    }
    if (slots.resting && worker.faults >= kFaultsOfAnAbsentWorker) slots.slots = 0;
    for (const auto& [number, job] : jobs_) {
      if (job.attempt && job.stored.task().has_conversion() && job.attempt->parts.contains(id)) ++slots.guests;
    }
    all.push_back(std::move(slots));
  }
  return all;
}

absl::StatusOr<std::vector<Place>> Controller::plan_placement(int64_t ranks) const {
  for (const auto& [number, job] : jobs_) {
    if (waits_for_slots(job.stored.job().state()) && job.pending_reason == "WAITING_FOR_SLOTS") {
      return absl::ResourceExhaustedError(absl::StrCat("would wait behind ", job.stored.job().name()));
    }
  }
  return allocate(ranks, free_slots(now_), {});
}

}  // namespace qwen3::coordinator
