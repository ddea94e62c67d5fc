#include "coordinator/session_service.h"

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/names.h"
#include "proto/status.h"

namespace qwen3::coordinator {
namespace {

using internal::v1::CoordinatorMessage;
using internal::v1::RecordAck;
using internal::v1::RecordBatch;
using internal::v1::WorkerMessage;

// A bidirectional stream with a queue of outgoing messages: one write in flight, one Finish. Owns itself until done.
template <class In, class Out>
class QueuedStream : public grpc::ServerBidiReactor<In, Out>,
                     public std::enable_shared_from_this<QueuedStream<In, Out>> {
 public:
  void start() {
    self_ = this->shared_from_this();
    this->StartRead(&in_);
  }

  void queue(Out message) {
    advance([&] {
      if (!closing_) out_.push_back(std::move(message));
    });
  }
  // What is queued is still written.
  void finish(const absl::Status& why) {
    advance([&] {
      if (closing_) return;
      closing_ = true;
      why_ = why;
    });
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      finish(absl::OkStatus());  // the daemon closed, or the connection is gone
      return;
    }
    on_message(std::move(in_));
    in_.Clear();
    this->StartRead(&in_);
  }
  void OnWriteDone(bool ok) override {
    advance([&] {
      writing_ = false;
      out_.pop_front();
      if (!ok) out_.clear();
    });
  }
  void OnCancel() override {
    advance([&] {
      closing_ = true;
      while (out_.size() > (writing_ ? 1 : 0)) out_.pop_back();
    });
  }
  void OnDone() override {
    on_closed();
    self_.reset();  // may delete this
  }

 protected:
  virtual void on_message(In message) = 0;
  virtual void on_closed() = 0;

 private:
  enum class Action { kNothing, kWrite, kFinish };

  template <class Change>
  void advance(Change change) {
    Action action = Action::kNothing;
    const std::shared_ptr<QueuedStream> alive = this->weak_from_this().lock();
    {
      const std::lock_guard lock(mutex_);
      change();
      if (finished_ || writing_) {
        action = Action::kNothing;
      } else if (!out_.empty()) {
        writing_ = true;
        action = Action::kWrite;
      } else if (closing_) {
        finished_ = true;
        action = Action::kFinish;
      }
    }
    if (action == Action::kWrite) this->StartWrite(&out_.front());  // only OnWriteDone pops it
    if (action == Action::kFinish) this->Finish(to_grpc(why_));
  }

  std::shared_ptr<QueuedStream> self_;
  In in_;
  std::mutex mutex_;  // guards all below
  std::deque<Out> out_;
  absl::Status why_;
  bool writing_ = false;
  bool closing_ = false;
  bool finished_ = false;
};

class Session final : public QueuedStream<WorkerMessage, CoordinatorMessage>, public SessionSink {
 public:
  explicit Session(Core& core) : core_(core) {}

  void begin() {
    number_ = core_.add_session(std::static_pointer_cast<Session>(shared_from_this()));
    start();
  }

  void send(const CoordinatorMessage& message) override { queue(message); }
  void close(const absl::Status& why) override { finish(why); }

 private:
  void on_message(WorkerMessage message) override {
    core_.state().post([&core = core_, number = number_, message = std::move(message)] {
      core.controller().on_message(number, message, core.now());
    });
  }
  void on_closed() override { core_.remove_session(number_); }

  Core& core_;
  int64_t number_ = 0;
};

// Records go to disk, then their batch is acknowledged; reports also go to the controller, each once.
class RecordStream final : public QueuedStream<RecordBatch, RecordAck>, public SessionSink {
 public:
  explicit RecordStream(Core& core) : core_(core) {}

  void begin() {
    number_ = core_.add_session(std::static_pointer_cast<RecordStream>(shared_from_this()));
    start();
  }

  void send(const CoordinatorMessage&) override {}
  void close(const absl::Status& why) override { finish(why); }

 private:
  // A batch has two parts (metrics and logs); the later one to reach the disk acknowledges.
  void on_message(RecordBatch batch) override {
    const std::string job = batch.key().job();
    const std::string id = record_id(job);
    if (id.empty()) {
      finish(absl::InvalidArgumentError(absl::StrCat("records of \"", job, "\": not a job's or operation's name")));
      return;
    }
    std::vector<Record> metrics, logs;
    for (const v1::MetricRecord& record : batch.metrics()) {
      metrics.push_back({record.attempt(), record.rank(), record.seq(), record.SerializeAsString()});
    }
    for (const v1::LogRecord& record : batch.logs()) {
      logs.push_back({record.attempt(), record.rank(), record.seq(), record.SerializeAsString()});
    }
    const auto self = std::static_pointer_cast<RecordStream>(shared_from_this());
    const auto part_done =
        [self, number = batch.batch(),
         parts = std::make_shared<std::atomic<int>>(!metrics.empty() + !logs.empty())](const absl::Status& status) {
          if (!status.ok()) {
            self->finish(status);  // the daemon keeps the batch and sends it again
            return;
          }
          if (--*parts > 0) return;
          RecordAck ack;
          ack.set_batch(number);
          self->queue(std::move(ack));
        };
    if (metrics.empty() && logs.empty()) part_done(absl::OkStatus());
    Core& core = core_;
    if (!metrics.empty()) {
      core.records().append(id, RecordKind::kMetrics, std::move(metrics),
                            [&core, job, part_done](const absl::Status& status, const std::vector<Record>& fresh) {
                              if (!fresh.empty()) report(core, job, fresh);
                              part_done(status);
                            });
    }
    if (!logs.empty()) {
      core.records().append(id, RecordKind::kLogs, std::move(logs),
                            [&core, job, part_done](const absl::Status& status, const std::vector<Record>& fresh) {
                              if (!fresh.empty()) core.hub().wake(job);
                              part_done(status);
                            });
    }
  }
  void on_closed() override { core_.remove_session(number_); }

  static void report(Core& core, const std::string& job, const std::vector<Record>& fresh) {
    core.hub().wake(job);
    std::vector<v1::MetricRecord> records(fresh.size());
    for (size_t i = 0; i < fresh.size(); ++i) records[i].ParseFromString(fresh[i].payload);
    core.state().post(
        [&core, job, records = std::move(records)] { core.controller().on_metrics(job, records, core.now()); });
  }

  Core& core_;
  int64_t number_ = 0;
};

}  // namespace

grpc::ServerBidiReactor<WorkerMessage, CoordinatorMessage>* SessionService::Session(grpc::CallbackServerContext*) {
  auto session = std::make_shared<coordinator::Session>(core_);
  session->begin();
  return session.get();
}

grpc::ServerBidiReactor<RecordBatch, RecordAck>* SessionService::PushRecords(grpc::CallbackServerContext*) {
  auto stream = std::make_shared<RecordStream>(core_);
  stream->begin();
  return stream.get();
}

}  // namespace qwen3::coordinator
