#include "tests/worker/fake_coordinator.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <algorithm>

namespace qwen3::worker::testing {

using internal::v1::CoordinatorMessage;
using internal::v1::Hello;
using internal::v1::RecordAck;
using internal::v1::RecordBatch;
using internal::v1::Welcome;
using internal::v1::WorkerMessage;

FakeCoordinator::FakeCoordinator() { start(); }

FakeCoordinator::~FakeCoordinator() { stop(); }

void FakeCoordinator::start() {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address(), grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  ASSERT_NE(server_, nullptr) << "cannot serve at " << address();
}

void FakeCoordinator::stop() {
  if (!server_) return;
  acknowledge_records(true);  // nothing may hold the server up
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
  const std::lock_guard lock(mutex_);
  messages_.clear();
}

grpc::Status FakeCoordinator::Session(grpc::ServerContext* context, SessionStream* stream) {
  {
    const std::lock_guard lock(mutex_);
    session_ = stream;
  }
  WorkerMessage message;
  while (stream->Read(&message)) {
    const std::lock_guard lock(mutex_);
    messages_.push_back(message);
    changed_.notify_all();
  }
  const std::lock_guard lock(mutex_);
  if (session_ == stream) session_ = nullptr;
  return grpc::Status::OK;
}

grpc::Status FakeCoordinator::PushRecords(grpc::ServerContext* context, RecordStream* stream) {
  RecordBatch batch;
  while (stream->Read(&batch)) {
    {
      std::unique_lock lock(mutex_);
      const auto add = [](auto& all, const auto& record) {
        const bool repeated = std::any_of(all.begin(), all.end(), [&](const auto& other) {
          return other.attempt() == record.attempt() && other.rank() == record.rank() && other.seq() == record.seq();
        });
        if (!repeated) all.push_back(record);
      };
      for (const auto& record : batch.logs()) add(logs_, record);
      for (const auto& record : batch.metrics()) add(metrics_, record);
      changed_.notify_all();
      changed_.wait(lock, [&] { return acknowledge_records_ || context->IsCancelled(); });
    }
    RecordAck ack;
    ack.set_batch(batch.batch());
    if (!stream->Write(ack)) break;
  }
  return grpc::Status::OK;
}

WorkerMessage FakeCoordinator::expect(WorkerMessage::MessageCase wanted) {
  std::unique_lock lock(mutex_);
  WorkerMessage found;
  const bool came = changed_.wait_for(lock, kPatience, [&] {
    while (!messages_.empty() && found.message_case() != wanted) {
      found = std::move(messages_.front());
      messages_.pop_front();
    }
    return found.message_case() == wanted;
  });
  EXPECT_TRUE(came) << "no message of kind " << wanted << "; the last one was: " << found.ShortDebugString();
  return came ? found : WorkerMessage();
}

bool FakeCoordinator::has(WorkerMessage::MessageCase kind) {
  const std::lock_guard lock(mutex_);
  return std::any_of(messages_.begin(), messages_.end(),
                     [&](const WorkerMessage& message) { return message.message_case() == kind; });
}

void FakeCoordinator::send(const CoordinatorMessage& message) {
  const std::lock_guard lock(mutex_);
  ASSERT_NE(session_, nullptr) << "no session to send on: " << message.ShortDebugString();
  session_->Write(message);
}

void FakeCoordinator::acknowledge_records(bool acknowledge) {
  const std::lock_guard lock(mutex_);
  acknowledge_records_ = acknowledge;
  changed_.notify_all();
}

Hello FakeCoordinator::welcome(const Welcome& welcome) {
  const Hello hello = expect(WorkerMessage::kHello).hello();
  CoordinatorMessage message;
  *message.mutable_welcome() = welcome;
  send(message);
  return hello;
}

bool FakeCoordinator::wait_for_log(const std::function<bool(const std::vector<v1::LogRecord>&)>& done) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return done(logs_); });
}

std::string FakeCoordinator::log_line_after(const std::string& prefix) {
  std::string rest;
  const bool came = wait_for_log([&](const std::vector<v1::LogRecord>& logs) {
    for (const auto& record : logs) {
      if (record.line().compare(0, prefix.size(), prefix) != 0) continue;
      rest = record.line().substr(prefix.size());
      return true;
    }
    return false;
  });
  EXPECT_TRUE(came) << "no log line begins with '" << prefix << "'";
  return rest;
}

std::vector<v1::LogRecord> FakeCoordinator::logs() {
  const std::lock_guard lock(mutex_);
  return logs_;
}

std::vector<v1::MetricRecord> FakeCoordinator::metrics() {
  const std::lock_guard lock(mutex_);
  return metrics_;
}

bool FakeCoordinator::wait_for_metrics(size_t count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return metrics_.size() >= count; });
}

}  // namespace qwen3::worker::testing
