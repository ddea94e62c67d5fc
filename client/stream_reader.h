// One server stream, read by one thread with a time limit for each response. Private to the client library.
#pragma once
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <condition_variable>
#include <mutex>
#include <stop_token>

#include "absl/time/time.h"

namespace qwen3::client {

// The object must stay alive until finish() has returned; the destructor sees to it.
template <class Response>
class StreamReader : public grpc::ClientReadReactor<Response> {
 public:
  enum class Outcome { kResponse, kTimeout, kStopped, kEnded };

  // open(context, reactor) starts the call, e.g. stub.async()->WatchEvents(context, &request, reactor).
  template <class Open>
  explicit StreamReader(const Open& open) {
    open(&context_, this);
    this->AddHold();  // reads are started from outside of the reactions, so the call must not end before the last one
    this->StartRead(&incoming_);
    this->StartCall();
  }
  ~StreamReader() { finish(); }

  // kEnded: no further response; finish() says why.
  Outcome read(Response* response, absl::Time until, const std::stop_token& stop) {
    std::unique_lock lock(mu_);
    const auto something = [&] { return has_response_ || done_; };
    if (until == absl::InfiniteFuture()) {
      changed_.wait(lock, stop, something);
    } else {
      changed_.wait_until(lock, stop, absl::ToChronoTime(until), something);
    }
    if (has_response_) {
      response->Swap(&incoming_);
      has_response_ = false;
      reading_ = true;
      incoming_.Clear();
      lock.unlock();
      this->StartRead(&incoming_);
      return Outcome::kResponse;
    }
    if (done_) return Outcome::kEnded;
    return stop.stop_requested() ? Outcome::kStopped : Outcome::kTimeout;
  }

  // Cancels what still runs and waits for the end of the call.
  grpc::Status finish() {
    context_.TryCancel();
    std::unique_lock lock(mu_);
    finishing_ = true;
    if (!reading_ && held_) {
      held_ = false;
      lock.unlock();
      this->RemoveHold();
      lock.lock();
    }
    changed_.wait(lock, [&] { return done_; });
    return status_;
  }

  // The status of a call that read() said has ended.
  grpc::Status status() {
    std::scoped_lock lock(mu_);
    return status_;
  }

 private:
  void OnReadDone(bool ok) override {
    std::unique_lock lock(mu_);
    reading_ = false;
    if (ok && !finishing_) {
      has_response_ = true;
      changed_.notify_all();
      return;
    }
    held_ = false;
    lock.unlock();
    this->RemoveHold();  // OnDone follows
  }
  void OnDone(const grpc::Status& status) override {
    std::scoped_lock lock(mu_);  // notified under the lock: after it the object may be destroyed
    status_ = status;
    done_ = true;
    changed_.notify_all();
  }

  grpc::ClientContext context_;
  std::mutex mu_;
  std::condition_variable_any changed_;
  Response incoming_;
  bool reading_ = true;        // a StartRead has not been answered yet
  bool held_ = true;           // the hold of the constructor is still there
  bool finishing_ = false;     // nobody will read any more
  bool has_response_ = false;  // incoming_ is whole and not taken yet
  bool done_ = false;
  grpc::Status status_;
};

}  // namespace qwen3::client
