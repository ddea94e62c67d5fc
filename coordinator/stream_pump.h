// One template for every watch: pulls what follows a position, writes it one message at a time, and ends with a resume
// token. Memory per stream is one pull; a slow reader simply is not pulled for.
#pragma once
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/executor.h"
#include "coordinator/watch_hub.h"
#include "proto/status.h"

namespace qwen3::coordinator {

// What follows the last pull. Each response carries its resume_token.
template <class Response>
struct Pulled {
  std::vector<Response> responses;
  std::string token;       // position after them; also of what was read and filtered out
  std::string end_reason;  // not empty: nothing will ever follow
  bool more = false;       // pull again, also without responses: what was read may all have been filtered out
};

// Response has string resume_token, and StreamEnd end.
template <class Response>
class StreamPump final : public grpc::ServerWriteReactor<Response>,
                         public Watcher,
                         public std::enable_shared_from_this<StreamPump<Response>> {
 public:
  // Called on the pool, never twice at a time; may block on disk, for about one chunk: others wait for the thread, and
  // a client that left is noticed only in between.
  using Pull = std::function<absl::StatusOr<Pulled<Response>>()>;
  using Ended = std::function<void(const absl::Status&)>;

  // The stream owns itself until it is done. Heartbeats come after `beats_of_silence` calls of beat().
  static StreamPump* start(WatchHub& hub, Executor& pool, std::string job, std::string token, Pull pull, Ended on_done,
                           int beats_of_silence = 10) {
    std::shared_ptr<StreamPump> pump(new StreamPump(hub, pool, std::move(job), std::move(token), std::move(pull),
                                                    std::move(on_done), beats_of_silence));
    pump->self_ = pump;
    hub.add(pump->job_, pump);
    pump->wake();
    return pump.get();
  }

  void wake() override {
    advance([this] { dirty_ = true; });
  }
  void beat() override {
    advance([this] { ++silent_beats_; });
  }
  void drain() override {
    advance([this] { draining_ = true; });
  }

  void OnWriteDone(bool ok) override {
    advance([this, ok] {
      writing_ = false;
      if (!ok) cancelled_ = true;
    });
  }
  void OnCancel() override {
    advance([this] { cancelled_ = true; });
  }
  void OnDone() override {
    hub_.remove(job_, this);
    on_done_(status_);
    self_.reset();  // may delete this
  }

 private:
  enum class Action { kNothing, kPull, kWrite, kFinish };

  StreamPump(WatchHub& hub, Executor& pool, std::string job, std::string token, Pull pull, Ended on_done,
             int beats_of_silence)
      : hub_(hub),
        pool_(pool),
        job_(std::move(job)),
        pull_(std::move(pull)),
        on_done_(std::move(on_done)),
        beats_of_silence_(beats_of_silence),
        token_(std::move(token)) {}

  // Applies a change and does what follows from it, outside of the lock. Only the caller that sets writing_, pulling_
  // or finished_ acts on it, so no two threads start the same operation.
  template <class Change>
  void advance(Change change) {
    Action action;
    {
      const std::lock_guard lock(mutex_);
      change();
      action = next();
    }
    const std::shared_ptr<StreamPump> alive = this->weak_from_this().lock();
    switch (action) {
      case Action::kNothing:
        break;
      case Action::kPull:
        pool_.post([this, alive] { pull(); });
        break;
      case Action::kWrite:
        this->StartWrite(&current_);
        break;
      case Action::kFinish:
        this->Finish(to_grpc(status_));
        break;
    }
  }

  // REQUIRES: mutex_ held.
  Action next() {
    if (finished_ || writing_) return Action::kNothing;
    if (cancelled_) return finish(absl::CancelledError("the client left"));
    if (end_sent_) return finish(absl::OkStatus());
    if (draining_) return write_end("DRAINING");
    if (!buffer_.empty()) {
      current_ = std::move(buffer_.front());
      buffer_.pop_front();
      token_ = current_.resume_token();
      return write();
    }
    if (!pulled_token_.empty()) token_ = std::exchange(pulled_token_, "");
    if (!failure_.ok()) return finish(failure_);
    if (!end_reason_.empty()) return write_end(end_reason_);
    if (dirty_ && !pulling_) {
      dirty_ = false;
      pulling_ = true;
      return Action::kPull;
    }
    if (silent_beats_ >= beats_of_silence_) {
      current_.Clear();
      current_.set_resume_token(token_);
      return write();
    }
    return Action::kNothing;
  }

  Action write() {
    silent_beats_ = 0;
    writing_ = true;
    return Action::kWrite;
  }

  Action write_end(const std::string& reason) {
    current_.Clear();
    current_.set_resume_token(token_);
    current_.mutable_end()->set_reason(reason);
    end_sent_ = true;
    return write();
  }

  Action finish(absl::Status status) {
    finished_ = true;
    status_ = std::move(status);
    return Action::kFinish;
  }

  void pull() {
    absl::StatusOr<Pulled<Response>> pulled;
    try {
      pulled = pull_();
    } catch (const std::exception& error) {
      pulled = absl::InternalError(error.what());
    }
    advance([this, &pulled] {
      pulling_ = false;
      if (!pulled.ok()) {
        failure_ = pulled.status();
        return;
      }
      if (!pulled->responses.empty() || pulled->more) dirty_ = true;  // there may be more
      for (Response& response : pulled->responses) buffer_.push_back(std::move(response));
      pulled_token_ = std::move(pulled->token);
      end_reason_ = std::move(pulled->end_reason);
    });
  }

  WatchHub& hub_;
  Executor& pool_;
  const std::string job_;
  const Pull pull_;
  const Ended on_done_;
  const int beats_of_silence_;
  std::shared_ptr<StreamPump> self_;

  std::mutex mutex_;  // guards all below; current_ belongs to gRPC while writing_
  std::deque<Response> buffer_;
  Response current_;
  std::string token_;         // position after what was written
  std::string pulled_token_;  // position after what is in the buffer; empty: no pull since the last
  std::string end_reason_;
  absl::Status failure_;
  absl::Status status_;
  int silent_beats_ = 0;
  bool dirty_ = false;
  bool pulling_ = false;
  bool writing_ = false;
  bool draining_ = false;
  bool cancelled_ = false;
  bool end_sent_ = false;
  bool finished_ = false;
};

}  // namespace qwen3::coordinator
