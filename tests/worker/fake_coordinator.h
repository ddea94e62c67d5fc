// A coordinator that does what a test tells it, on a loopback port, for tests of the daemon.
#pragma once
#include <grpcpp/server.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "qwen3/internal/v1/session.grpc.pb.h"

namespace qwen3::worker::testing {

// Only catches a hang.
inline constexpr std::chrono::seconds kPatience{30};

class FakeCoordinator final : public internal::v1::WorkerSessionService::Service {
 public:
  FakeCoordinator();
  ~FakeCoordinator() override;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  // As after a crash: sessions break, messages not yet looked at are lost. Start serves on the same port.
  void stop();
  void start();

  // The next message of the wanted kind; others before it are dropped. A default message after kPatience, and the
  // test fails.
  internal::v1::WorkerMessage expect(internal::v1::WorkerMessage::MessageCase wanted);
  // Whether a message of this kind has come and was not looked at.
  bool has(internal::v1::WorkerMessage::MessageCase kind);
  void send(const internal::v1::CoordinatorMessage& message);
  // While false, batches of records are kept and not acknowledged.
  void acknowledge_records(bool acknowledge);
  // Expects Hello and answers Welcome.
  internal::v1::Hello welcome(const internal::v1::Welcome& welcome = {});

  // Waits until `done` holds of all log lines ("TEXT" of any rank) that came.
  bool wait_for_log(const std::function<bool(const std::vector<v1::LogRecord>&)>& done);
  // The rest of the first line that begins so.
  std::string log_line_after(const std::string& prefix);
  std::vector<v1::LogRecord> logs();
  std::vector<v1::MetricRecord> metrics();
  bool wait_for_metrics(size_t count);

 private:
  using SessionStream = grpc::ServerReaderWriter<internal::v1::CoordinatorMessage, internal::v1::WorkerMessage>;
  using RecordStream = grpc::ServerReaderWriter<internal::v1::RecordAck, internal::v1::RecordBatch>;
  grpc::Status Session(grpc::ServerContext* context, SessionStream* stream) override;
  grpc::Status PushRecords(grpc::ServerContext* context, RecordStream* stream) override;

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool acknowledge_records_ = true;                   // under mutex_
  SessionStream* session_ = nullptr;                  // under mutex_
  std::deque<internal::v1::WorkerMessage> messages_;  // under mutex_
  std::vector<v1::LogRecord> logs_;                   // under mutex_; in order of arrival, without repeats
  std::vector<v1::MetricRecord> metrics_;             // under mutex_
};

}  // namespace qwen3::worker::testing
