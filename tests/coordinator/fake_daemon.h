// A scripted daemon on real gRPC: it says what the test tells it to, and keeps what it is told.
#pragma once
#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "qwen3/internal/v1/session.grpc.pb.h"

namespace qwen3::coordinator::testing {

class FakeDaemon {
 public:
  // Connects and proves that it sees the checkpoint root; `running` as a real one names what it still runs.
  FakeDaemon(int port, const std::string& worker, int32_t slots,
             const std::vector<internal::v1::AttemptKey>& running = {});
  ~FakeDaemon();  // as if it were killed
  FakeDaemon(const FakeDaemon&) = delete;

  void say(const internal::v1::WorkerMessage& message);
  // The next message of this kind; others before it are passed over. Fails the test after 20 s.
  internal::v1::CoordinatorMessage next(internal::v1::CoordinatorMessage::MessageCase kind);

  internal::v1::Assign accept_next();  // waits for an Assign and accepts it
  void first_step(const internal::v1::AttemptKey& key, int64_t step);
  // Writes this rank's real part of a checkpoint of `world` ranks and says Prepared.
  void prepare(const internal::v1::Assign& assign, int32_t rank, int64_t step);
  void exit_by_signal(const internal::v1::AttemptKey& key, int32_t rank, int32_t signal, bool aborted = false);
  void finish(const internal::v1::AttemptKey& key, int32_t rank, int64_t step);
  void fail(const internal::v1::AttemptKey& key, int32_t rank, const std::string& reason);  // INFRA
  // Pushes reports of steps [first, last] and waits until they are acknowledged.
  void push_metrics(const internal::v1::AttemptKey& key, int64_t first, int64_t last);
  // The same with lines of rank 0.
  void push_logs(const internal::v1::AttemptKey& key, int64_t first, int64_t last, const std::string& line);

 private:
  void push(const internal::v1::RecordBatch& batch);

  std::string worker_;
  std::unique_ptr<internal::v1::WorkerSessionService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<internal::v1::WorkerMessage, internal::v1::CoordinatorMessage>> stream_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<internal::v1::CoordinatorMessage> inbox_;
  bool closed_ = false;
  std::thread reader_;
};

}  // namespace qwen3::coordinator::testing
