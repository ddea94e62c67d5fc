// The client's end of a bidirectional gRPC stream: a queue of messages to write, one write at a time, a read always
// pending, and exactly one on_closed. Handlers run on gRPC's few threads: they must only hand over.
#pragma once
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

namespace qwen3::worker {

template <class Out, class In>
class ClientStream final : public grpc::ClientBidiReactor<Out, In> {
 public:
  using Reactor = grpc::ClientBidiReactor<Out, In>;
  struct Handlers {
    std::function<void(In)> on_message;
    // Gets the stream itself, to be destroyed on another thread: when the last reference to a channel goes on one of
    // gRPC's callback threads, gRPC 1.51 joins that thread from itself, ignores the error, and aborts later
    // (grpc/grpc#32584, #37858).
    std::function<void(std::shared_ptr<ClientStream>, grpc::Status)> on_closed;
  };
  // A peer that reads so slowly that this many messages wait is cut off.
  static constexpr size_t kMaxQueued = 4096;

  // `call` starts the RPC on a stub: stub.async()->Method(context, reactor). It waits for the server to be there.
  static std::shared_ptr<ClientStream> open(const std::function<void(grpc::ClientContext*, Reactor*)>& call,
                                            Handlers handlers) {
    const std::shared_ptr<ClientStream> stream(new ClientStream(std::move(handlers)));
    stream->self_ = stream;
    stream->context_.set_wait_for_ready(true);
    call(&stream->context_, stream.get());
    stream->AddHold();  // writes start outside of reactions; ends with the reads
    stream->StartRead(&stream->incoming_);
    stream->StartCall();
    return stream;
  }

  void send(Out message) {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    queue_.push_back(std::move(message));
    if (queue_.size() > kMaxQueued) context_.TryCancel();
    write_next();
  }

  void cancel() { context_.TryCancel(); }

 private:
  explicit ClientStream(Handlers handlers) : handlers_(std::move(handlers)) {}

  void OnReadDone(bool ok) override {
    if (ok) {
      handlers_.on_message(std::move(incoming_));
      incoming_.Clear();
      this->StartRead(&incoming_);
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    this->RemoveHold();
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    queue_.pop_front();
    if (ok && !ended_) write_next();
  }

  void OnDone(const grpc::Status& status) override {
    const Handlers handlers = std::move(handlers_);  // the stream may be gone before on_closed returns
    handlers.on_closed(std::move(self_), status);
  }

  // REQUIRES: mutex_ is held, the stream has not ended.
  void write_next() {
    if (writing_ || queue_.empty()) return;
    writing_ = true;
    this->StartWrite(&queue_.front());
  }

  Handlers handlers_;
  grpc::ClientContext context_;
  In incoming_;
  std::shared_ptr<ClientStream> self_;  // until OnDone

  std::mutex mutex_;
  std::deque<Out> queue_;  // under mutex_; the front is being written while writing_
  bool writing_ = false;   // under mutex_
  bool ended_ = false;     // under mutex_: no write may start any more
};

}  // namespace qwen3::worker
