// A scripted coordinator in this process: the public services over real gRPC on a free port of loopback, without any
// logic. A test fills the members it needs before the first call.
#pragma once
#include <grpcpp/server.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "google/longrunning/operations.pb.h"
#include "qwen3/v1/checkpoint.pb.h"
#include "qwen3/v1/job.pb.h"
#include "qwen3/v1/operation.pb.h"
#include "qwen3/v1/watch.pb.h"
#include "qwen3/v1/worker.pb.h"

namespace qwen3::client::testing {

class FakeServer {
 public:
  FakeServer();
  ~FakeServer();

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  void stop();     // closes all connections at once
  void restart();  // on the same port

  // What the services answer.
  std::map<std::string, v1::Job> jobs;  // by name
  std::vector<v1::Event> events;        // of any job
  std::vector<v1::MetricRecord> metrics;
  std::vector<v1::LogRecord> logs;
  std::vector<v1::Checkpoint> checkpoints;
  std::vector<v1::Attempt> attempts;
  std::vector<v1::Worker> workers;
  std::function<grpc::Status(const v1::TraceJobRequest&, v1::TraceJobResponse*)> trace;  // default: unimplemented
  std::function<grpc::Status(const v1::CreateJobRequest&, v1::Job*)> create;  // default: accepts as job "made"

  // Tasks: each request is kept and answered with the operation "op-made", which goes through `operation_steps` (the
  // last one stays), one step for each call that shows it.
  std::vector<v1::EvaluateRequest> evaluate_requests;
  std::vector<v1::ConvertRequest> convert_requests;
  std::vector<v1::VerifyRequest> verify_requests;
  std::vector<google::longrunning::Operation> operation_steps;
  std::function<void(const v1::EvaluateRequest&)> on_evaluate;  // before the answer
  bool operation_cancelled = false;

  // The next calls, streams included, fail so, one each.
  void fail_next(int calls, const grpc::Status& status);
  int calls() const { return calls_; }      // unary calls that arrived, failed ones included
  int streams() const { return streams_; }  // streams that were opened, failed ones included

  // The next `cuts` streams are cut after a random number of records, in one of three random ways.
  void cut_streams(int cuts, unsigned seed);
  int cuts_left() const { return cuts_; }
  // Streams end with DRAINING after one record, so many times.
  void drain_streams(int drains) { drains_ = drains; }
  // Streams say nothing at all, so many times.
  void mute_streams(int mutes) { mutes_ = mutes; }
  // Streams stay open, silent, after the last record instead of ending.
  void hold_streams(bool hold) { hold_ = hold; }

 private:
  class Services;

  void start();
  bool take_failure(grpc::Status* status);

  std::unique_ptr<Services> services_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::mutex mu_;  // guards failures_, random_ and, against concurrent calls, the members above
  std::vector<grpc::Status> failures_;
  std::minstd_rand random_;
  std::atomic<int> calls_ = 0, streams_ = 0, cuts_ = 0, drains_ = 0, mutes_ = 0;
  std::atomic<bool> hold_ = false, stopping_ = false;
};

}  // namespace qwen3::client::testing
