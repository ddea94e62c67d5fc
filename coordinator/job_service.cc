#include "coordinator/job_service.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "coordinator/names.h"
#include "coordinator/submission.h"

namespace qwen3::coordinator {
namespace {

constexpr int32_t kDefaultPage = 100;
constexpr int32_t kMaxPage = 1000;
constexpr int64_t kMaxTraceSteps = 1000;
constexpr size_t kMaxRequestId = 128;  // characters

absl::Status check_job_name(const std::string& field, const std::string& name) {
  if (!job_id(name).empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " is \"", name, "\"; it must be tenants/default/jobs/ID"));
}

// REQUIRES: on the state thread.
void add_live(const Controller& controller, v1::Job& job) {
  const auto live = controller.live(job.name());
  if (!live) return;
  *job.mutable_progress() = live->progress;
  job.set_pending_reason(live->pending_reason);
  if (!live->status_message.empty()) job.set_status_message(live->status_message);
}

}  // namespace

// A known request_id is answered before anything is checked again: what was accepted stays accepted.
grpc::ServerUnaryReactor* JobService::CreateJob(grpc::CallbackServerContext* context,
                                                const v1::CreateJobRequest* request, v1::Job* response) {
  return answer(context, "CreateJob", core_.metrics(), core_.state(), [=, this](Respond respond) {
    if (!request->validate_only() && !request->request_id().empty()) {
      if (const auto known = core_.controller().replay(request->request_id(), request_digest(*request))) {
        core_.write({}, [=, this, known = *known] { answer_created(context, known, response, respond); });
        return;
      }
    }
    const bool fast_bfloat16 = core_.controller().all_workers_have_fast_bfloat16();
    core_.readers().post(
        guarded(respond, [=, this] { check_and_create(context, request, response, fast_bfloat16, respond); }));
  });
}

void JobService::check_and_create(grpc::CallbackServerContext* context, const v1::CreateJobRequest* request,
                                  v1::Job* response, bool fast_bfloat16, Respond respond) {
  auto job = check_submission(*request, {.checkpoint_root = core_.options().checkpoint_root,
                                         .data_root = core_.options().data_root,
                                         .state_dir = core_.options().state_dir,
                                         .fast_bfloat16 = fast_bfloat16,
                                         .reader = &core_.reader()});
  if (!job.ok()) {
    respond(job.status());
    return;
  }
  if (request->validate_only()) {
    core_.state().post(guarded(respond, [=, this, job = *std::move(job)] {
      *response = job.stored.job();
      v1::Plan& plan = *response->mutable_plan();
      const auto places = core_.controller().plan_placement(plan.world_size());
      if (!places.ok()) plan.set_waits(std::string(places.status().message()));
      for (size_t rank = 0; places.ok() && rank < places->size(); ++rank) {
        v1::RankPlacement& placement = *plan.add_placement();
        placement.set_rank(static_cast<int32_t>(rank));
        placement.set_worker(worker_name((*places)[rank].worker));
        placement.set_slot((*places)[rank].slot);
      }
      respond(absl::OkStatus());
    }));
    return;
  }
  core_.state().post(guarded(respond, [=, this, job = *std::move(job)]() mutable {
    core_.controller().create(std::move(job), core_.now(), [=, this](const absl::StatusOr<CreatedJob>& created) {
      answer_created(context, created, response, respond);
    });
  }));
}

void JobService::answer_created(grpc::CallbackServerContext* context, const absl::StatusOr<CreatedJob>& created,
                                v1::Job* response, Respond respond) {
  if (!created.ok()) {
    respond(created.status());
    return;
  }
  if (created->replayed) context->AddInitialMetadata("replayed", "true");
  answer_job(created->name, response, std::move(respond));
}

void JobService::answer_job(const std::string& name, v1::Job* response, Respond respond) {
  core_.readers().post(guarded(respond, [=, this] {
    auto stored = core_.reader().job(name);
    if (!stored.ok()) {
      respond(stored.status());
      return;
    }
    *response = std::move(*stored->mutable_job());
    core_.state().post(guarded(respond, [=, this] {
      add_live(core_.controller(), *response);
      respond(absl::OkStatus());
    }));
  }));
}

grpc::ServerUnaryReactor* JobService::GetJob(grpc::CallbackServerContext* context, const v1::GetJobRequest* request,
                                             v1::Job* response) {
  return answer(context, "GetJob", core_.metrics(), core_.readers(), [=, this](Respond respond) {
    if (absl::Status status = check_job_name("name", request->name()); !status.ok()) return respond(status);
    answer_job(request->name(), response, respond);
  });
}

grpc::ServerUnaryReactor* JobService::ListJobs(grpc::CallbackServerContext* context, const v1::ListJobsRequest* request,
                                               v1::ListJobsResponse* response) {
  return answer(context, "ListJobs", core_.metrics(), core_.readers(), [=, this](Respond respond) {
    if (request->parent() != absl::string_view(kParent.data(), kParent.size())) {
      return respond(absl::InvalidArgumentError(
          absl::StrCat("parent is \"", request->parent(), "\"; the only tenant is \"tenants/default\"")));
    }
    int64_t before = std::numeric_limits<int64_t>::max();
    if (!request->page_token().empty() && (!absl::SimpleAtoi(request->page_token(), &before) || before < 1)) {
      return respond(absl::InvalidArgumentError(
          absl::StrCat("page_token \"", request->page_token(), "\" is not one that ListJobs returned")));
    }
    const int32_t size = request->page_size() <= 0 ? kDefaultPage : std::min(request->page_size(), kMaxPage);
    auto jobs = core_.reader().jobs(before, size + 1);
    if (!jobs.ok()) return respond(jobs.status());
    if (static_cast<int32_t>(jobs->size()) > size) {
      jobs->pop_back();
      response->set_next_page_token(absl::StrCat(jobs->back().number()));
    }
    for (internal::v1::StoredJob& job : *jobs) *response->add_jobs() = std::move(*job.mutable_job());
    core_.state().post(guarded(respond, [=, this] {
      for (v1::Job& job : *response->mutable_jobs()) add_live(core_.controller(), job);
      respond(absl::OkStatus());
    }));
  });
}

grpc::ServerUnaryReactor* JobService::CancelJob(grpc::CallbackServerContext* context,
                                                const v1::CancelJobRequest* request, v1::Job* response) {
  return answer(context, "CancelJob", core_.metrics(), core_.state(), [=, this](Respond respond) {
    if (absl::Status status = check_job_name("name", request->name()); !status.ok()) return respond(status);
    core_.controller().cancel(request->name(), core_.now(), [=, this](const absl::Status& status) {
      if (!status.ok()) return respond(status);
      answer_job(request->name(), response, respond);
    });
  });
}

grpc::ServerUnaryReactor* JobService::TraceJob(grpc::CallbackServerContext* context, const v1::TraceJobRequest* request,
                                               v1::TraceJobResponse* response) {
  return answer(context, "TraceJob", core_.metrics(), core_.state(), [=, this](Respond respond) {
    if (absl::Status status = check_job_name("name", request->name()); !status.ok()) return respond(status);
    if (request->steps() < 1 || request->steps() > kMaxTraceSteps) {
      return respond(absl::InvalidArgumentError(
          absl::StrCat("steps is ", request->steps(), "; it must be 1 to ", kMaxTraceSteps)));
    }
    if (request->request_id().size() > kMaxRequestId) {
      return respond(absl::InvalidArgumentError(absl::StrCat("request_id has ", request->request_id().size(),
                                                             " characters; at most ", kMaxRequestId, " are allowed")));
    }
    core_.controller().trace(request->name(), request->steps(), request->request_id(), core_.now(),
                             [=](const absl::StatusOr<v1::TraceJobResponse>& ordered) {
                               if (ordered.ok()) *response = *ordered;
                               respond(ordered.status());
                             });
  });
}

grpc::ServerUnaryReactor* JobService::ListAttempts(grpc::CallbackServerContext* context,
                                                   const v1::ListAttemptsRequest* request,
                                                   v1::ListAttemptsResponse* response) {
  return answer(context, "ListAttempts", core_.metrics(), core_.readers(), [=, this](Respond respond) {
    if (absl::Status status = check_job_name("parent", request->parent()); !status.ok()) return respond(status);
    if (const auto job = core_.reader().job(request->parent()); !job.ok()) return respond(job.status());
    auto attempts = core_.reader().attempts(request->parent());
    if (!attempts.ok()) return respond(attempts.status());
    for (internal::v1::StoredAttempt& attempt : *attempts) {
      *response->add_attempts() = std::move(*attempt.mutable_attempt());
    }
    respond(absl::OkStatus());
  });
}

}  // namespace qwen3::coordinator
