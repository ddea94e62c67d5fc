#include "coordinator/operation_service.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "coordinator/job_state.h"
#include "coordinator/names.h"
#include "coordinator/operation.h"
#include "coordinator/task_submission.h"
#include "coordinator/watch_hub.h"

namespace qwen3::coordinator {
namespace {

using google::longrunning::Operation;

constexpr int32_t kDefaultPage = 100;
constexpr int32_t kMaxPage = 1000;
constexpr absl::Duration kDefaultWait = absl::Seconds(60);
constexpr absl::Duration kMaxWait = absl::Hours(1);

absl::Status check_name(const std::string& name) {
  if (!operation_id(name).empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("name is \"", name, "\"; it must be tenants/default/operations/ID"));
}

// Fills in the stored task and what is live of it.
void answer_operation(Core& core, const std::string& name, Operation* response, Respond respond) {
  core.readers().post(guarded(respond, [&core, name, response, respond] {
    auto stored = core.reader().job(name);
    if (!stored.ok()) return respond(stored.status());
    core.state().post(guarded(respond, [&core, response, respond, stored = *std::move(stored)] {
      const auto live = core.controller().live(stored.job().name());
      *response = operation_of(stored, live ? &*live : nullptr);
      respond(absl::OkStatus());
    }));
  }));
}

void answer_created(Core& core, grpc::CallbackServerContext* context, const absl::StatusOr<CreatedJob>& created,
                    Operation* response, Respond respond) {
  if (!created.ok()) return respond(created.status());
  if (created->replayed) context->AddInitialMetadata("replayed", "true");
  answer_operation(core, created->name, response, std::move(respond));
}

// As CreateJob: a known request_id is answered before anything is checked again, what was accepted stays accepted.
template <class Request>
grpc::ServerUnaryReactor* create(Core& core, const char* method, grpc::CallbackServerContext* context,
                                 const Request* request, Operation* response) {
  return answer(context, method, core.metrics(), core.state(), [=, &core](Respond respond) {
    if (!request->request_id().empty()) {
      Request body = *request;
      body.clear_request_id();
      if (const auto known = core.controller().replay(request->request_id(), message_digest(body))) {
        core.write({}, [=, &core, known = *known] { answer_created(core, context, known, response, respond); });
        return;
      }
    }
    const bool fast_bfloat16 = core.controller().all_workers_have_fast_bfloat16();
    core.readers().post(guarded(respond, [=, &core] {
      auto task = check_task(*request, {.checkpoint_root = core.options().checkpoint_root,
                                        .data_root = core.options().data_root,
                                        .state_dir = core.options().state_dir,
                                        .fast_bfloat16 = fast_bfloat16,
                                        .reader = &core.reader()});
      if (!task.ok()) return respond(task.status());
      core.state().post(guarded(respond, [=, &core, task = *std::move(task)]() mutable {
        core.controller().create(std::move(task), core.now(), [=, &core](const absl::StatusOr<CreatedJob>& created) {
          answer_created(core, context, created, response, respond);
        });
      }));
    }));
  });
}

// One WaitOperation: answers when the operation is done, the time is up or the server stops. Owns itself until then.
class Wait final : public Watcher, public std::enable_shared_from_this<Wait> {
 public:
  Wait(Core& core, grpc::CallbackServerContext* context, std::string name, Operation* response, Respond respond,
       absl::Duration time)
      : core_(core),
        context_(context),
        name_(std::move(name)),
        response_(response),
        respond_(std::move(respond)),
        deadline_(core.now() + time) {}

  void begin() {
    self_ = shared_from_this();
    core_.hub().add(name_, self_);
    look();
  }

  void wake() override { look(); }
  void beat() override {
    if (core_.now() >= deadline_ || context_cancelled()) look();
  }
  void drain() override { finish(absl::UnavailableError("the coordinator stops; call again")); }

 private:
  // On disk first: an operation that is done there is done for good.
  void look() {
    core_.readers().post([self = shared_from_this()] {
      auto stored = self->core_.reader().job(self->name_);
      if (!stored.ok()) return self->finish(stored.status());
      const bool over =
          is_terminal(stored->job().state()) || self->core_.now() >= self->deadline_ || self->context_cancelled();
      if (!over) return;
      self->core_.state().post([self, stored = *std::move(stored)] {
        const auto live = self->core_.controller().live(self->name_);
        self->finish(absl::OkStatus(), operation_of(stored, live ? &*live : nullptr));
      });
    });
  }

  bool context_cancelled() {
    const std::lock_guard lock(mutex_);
    return self_ != nullptr && context_->IsCancelled();
  }

  void finish(const absl::Status& status, const Operation& operation = {}) {
    std::shared_ptr<Wait> alive;
    {
      const std::lock_guard lock(mutex_);
      if (self_ == nullptr) return;  // answered already
      alive = std::move(self_);
      self_ = nullptr;
      if (status.ok()) *response_ = operation;
    }
    core_.hub().remove(name_, this);
    respond_(status);
  }

  Core& core_;
  grpc::CallbackServerContext* context_;  // alive until the answer
  const std::string name_;
  Operation* response_;
  const Respond respond_;
  const absl::Time deadline_;
  std::mutex mutex_;
  std::shared_ptr<Wait> self_;  // null: answered
};

}  // namespace

grpc::ServerUnaryReactor* EvaluationService::Evaluate(grpc::CallbackServerContext* context,
                                                      const v1::EvaluateRequest* request, Operation* response) {
  return create(core_, "Evaluate", context, request, response);
}

grpc::ServerUnaryReactor* ConversionService::Convert(grpc::CallbackServerContext* context,
                                                     const v1::ConvertRequest* request, Operation* response) {
  return create(core_, "Convert", context, request, response);
}

grpc::ServerUnaryReactor* ConversionService::Verify(grpc::CallbackServerContext* context,
                                                    const v1::VerifyRequest* request, Operation* response) {
  return create(core_, "Verify", context, request, response);
}

grpc::ServerUnaryReactor* OperationService::ListOperations(grpc::CallbackServerContext* context,
                                                           const google::longrunning::ListOperationsRequest* request,
                                                           google::longrunning::ListOperationsResponse* response) {
  return answer(context, "ListOperations", core_.metrics(), core_.readers(), [=, this](Respond respond) {
    if (request->name() != kParent && request->name() != "tenants/default/operations") {
      return respond(absl::InvalidArgumentError(
          absl::StrCat("name is \"", request->name(), "\"; the only tenant is \"tenants/default\"")));
    }
    if (!request->filter().empty()) {
      return respond(absl::InvalidArgumentError(
          absl::StrCat("filter is \"", request->filter(), "\"; there are no filters, it must be empty")));
    }
    int64_t before = std::numeric_limits<int64_t>::max();
    if (!request->page_token().empty() && (!absl::SimpleAtoi(request->page_token(), &before) || before < 1)) {
      return respond(absl::InvalidArgumentError(
          absl::StrCat("page_token \"", request->page_token(), "\" is not one that ListOperations returned")));
    }
    const int32_t size = request->page_size() <= 0 ? kDefaultPage : std::min(request->page_size(), kMaxPage);
    auto tasks = core_.reader().jobs(before, size + 1, Rows::kTasks);
    if (!tasks.ok()) return respond(tasks.status());
    if (static_cast<int32_t>(tasks->size()) > size) {
      tasks->pop_back();
      response->set_next_page_token(absl::StrCat(tasks->back().number()));
    }
    core_.state().post(guarded(respond, [=, this, tasks = *std::move(tasks)] {
      for (const internal::v1::StoredJob& task : tasks) {
        const auto live = core_.controller().live(task.job().name());
        *response->add_operations() = operation_of(task, live ? &*live : nullptr);
      }
      respond(absl::OkStatus());
    }));
  });
}

grpc::ServerUnaryReactor* OperationService::GetOperation(grpc::CallbackServerContext* context,
                                                         const google::longrunning::GetOperationRequest* request,
                                                         Operation* response) {
  return answer(context, "GetOperation", core_.metrics(), core_.readers(), [=, this](Respond respond) {
    if (absl::Status status = check_name(request->name()); !status.ok()) return respond(status);
    answer_operation(core_, request->name(), response, respond);
  });
}

grpc::ServerUnaryReactor* OperationService::DeleteOperation(grpc::CallbackServerContext* context,
                                                            const google::longrunning::DeleteOperationRequest* request,
                                                            google::protobuf::Empty*) {
  return answer(context, "DeleteOperation", core_.metrics(), core_.readers(), [=](Respond respond) {
    respond(absl::UnimplementedError(absl::StrCat("operations are a record and are kept; to end \"", request->name(),
                                                  "\" early call CancelOperation")));
  });
}

grpc::ServerUnaryReactor* OperationService::CancelOperation(grpc::CallbackServerContext* context,
                                                            const google::longrunning::CancelOperationRequest* request,
                                                            google::protobuf::Empty*) {
  return answer(context, "CancelOperation", core_.metrics(), core_.state(), [=, this](Respond respond) {
    if (absl::Status status = check_name(request->name()); !status.ok()) return respond(status);
    core_.controller().cancel(request->name(), core_.now(), respond);
  });
}

grpc::ServerUnaryReactor* OperationService::WaitOperation(grpc::CallbackServerContext* context,
                                                          const google::longrunning::WaitOperationRequest* request,
                                                          Operation* response) {
  return answer(context, "WaitOperation", core_.metrics(), core_.readers(), [=, this](Respond respond) {
    if (absl::Status status = check_name(request->name()); !status.ok()) return respond(status);
    absl::Duration time = kDefaultWait;
    if (request->has_timeout()) {
      time = absl::Seconds(request->timeout().seconds()) + absl::Nanoseconds(request->timeout().nanos());
    }
    std::make_shared<Wait>(core_, context, request->name(), response, respond,
                           std::clamp(time, absl::ZeroDuration(), kMaxWait))
        ->begin();
  });
}

}  // namespace qwen3::coordinator
