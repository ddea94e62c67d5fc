#include "tests/coordinator/fake_daemon.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "checkpoint/manifest.h"
#include "checkpoint/safetensors.h"

namespace qwen3::coordinator::testing {

using internal::v1::AttemptKey;
using internal::v1::CoordinatorMessage;
using internal::v1::WorkerMessage;

FakeDaemon::FakeDaemon(int port, const std::string& worker, int32_t slots, const std::vector<AttemptKey>& running)
    : worker_(worker) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  stub_ = internal::v1::WorkerSessionService::NewStub(
      grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials(), arguments));
  context_.set_wait_for_ready(true);
  stream_ = stub_->Session(&context_);
  reader_ = std::thread([this] {
    CoordinatorMessage message;
    while (stream_->Read(&message)) {
      const std::lock_guard lock(mutex_);
      inbox_.push_back(message);
      arrived_.notify_all();
    }
    const std::lock_guard lock(mutex_);
    closed_ = true;
    arrived_.notify_all();
  });
  WorkerMessage message;
  internal::v1::Hello& hello = *message.mutable_hello();
  hello.set_worker(worker);
  hello.set_incarnation(worker + "-1");
  hello.set_slots(slots);
  hello.set_device_kind("cpu");
  hello.set_build_id("test");
  hello.set_advertise_address("127.0.0.1");
  for (const AttemptKey& key : running) *hello.add_running()->mutable_key() = key;
  say(message);
  std::ifstream probe(next(CoordinatorMessage::kWelcome).welcome().probe_file());
  std::ostringstream content;
  content << probe.rdbuf();
  hello.set_checkpoint_root_probe(content.str());
  say(message);
  EXPECT_EQ(next(CoordinatorMessage::kWelcome).welcome().probe_file(), "") << worker << " was not admitted";
}

FakeDaemon::~FakeDaemon() {
  context_.TryCancel();
  reader_.join();
}

void FakeDaemon::say(const WorkerMessage& message) { stream_->Write(message); }

CoordinatorMessage FakeDaemon::next(CoordinatorMessage::MessageCase kind) {
  std::unique_lock lock(mutex_);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (true) {
    while (!inbox_.empty()) {
      CoordinatorMessage message = inbox_.front();
      inbox_.pop_front();
      if (message.message_case() == kind) return message;
    }
    if (closed_ || arrived_.wait_until(lock, deadline) == std::cv_status::timeout) {
      throw std::runtime_error(worker_ + ": no message of kind " + std::to_string(kind));
    }
  }
}

internal::v1::Assign FakeDaemon::accept_next() {
  const internal::v1::Assign assign = next(CoordinatorMessage::kAssign).assign();
  WorkerMessage message;
  *message.mutable_assign_reply()->mutable_key() = assign.key();
  message.mutable_assign_reply()->set_accepted(true);
  say(message);
  return assign;
}

void FakeDaemon::first_step(const AttemptKey& key, int64_t step) {
  WorkerMessage message;
  *message.mutable_first_step()->mutable_key() = key;
  message.mutable_first_step()->set_step(step);
  say(message);
}

// A tensor of one row per rank.
void FakeDaemon::prepare(const internal::v1::Assign& assign, int32_t rank, int64_t step) {
  const std::string folder = assign.assignment().checkpoint_folder() + "/step-" + std::to_string(step) + ".attempt-" +
                             std::to_string(assign.key().attempt());
  std::filesystem::create_directories(folder);
  const std::string file = "rank-" + std::to_string(rank) + ".safetensors";
  const float value = static_cast<float>(step);
  const auto bytes = std::as_bytes(std::span(&value, 1));
  const checkpoint::TensorBytes tensor{"model.w", checkpoint::Dtype::kFloat32, {1, 1}, bytes};
  const auto written = checkpoint::write_safetensors(folder + "/" + file, std::span(&tensor, 1));
  if (!written.ok()) throw std::runtime_error(written.status().ToString());
  checkpoint::Manifest part;
  part.run.step = step;
  part.mesh = {1, 1, assign.assignment().world_size(), 1, 1, 1};
  checkpoint::TensorRecord& record = part.tensors["model.w"];
  record.shape = {assign.assignment().world_size(), 1};
  record.slices = {{.file = file, .key = "model.w", .box = {{rank, 0}, {1, 1}}}};
  record.digest = checkpoint::digest_slice(bytes, 4, rank);
  part.files[file] = *written;
  WorkerMessage message;
  *message.mutable_prepared()->mutable_key() = assign.key();
  message.mutable_prepared()->set_rank(rank);
  message.mutable_prepared()->mutable_checkpoint()->set_step(step);
  message.mutable_prepared()->mutable_checkpoint()->set_folder(folder);
  message.mutable_prepared()->mutable_checkpoint()->set_manifest_part(checkpoint::to_json(part));
  say(message);
}

void FakeDaemon::exit_by_signal(const AttemptKey& key, int32_t rank, int32_t signal, bool aborted) {
  WorkerMessage message;
  *message.mutable_rank_exit()->mutable_key() = key;
  message.mutable_rank_exit()->set_rank(rank);
  message.mutable_rank_exit()->set_exit_code(-1);
  message.mutable_rank_exit()->set_signal(signal);
  message.mutable_rank_exit()->set_aborted(aborted);
  say(message);
}

void FakeDaemon::fail(const AttemptKey& key, int32_t rank, const std::string& reason) {
  WorkerMessage message;
  *message.mutable_rank_exit()->mutable_key() = key;
  message.mutable_rank_exit()->set_rank(rank);
  message.mutable_rank_exit()->set_exit_code(1);
  message.mutable_rank_exit()->mutable_failure()->set_class_(v1::FAILURE_CLASS_INFRA);
  message.mutable_rank_exit()->mutable_failure()->set_reason(reason);
  say(message);
}

void FakeDaemon::finish(const AttemptKey& key, int32_t rank, int64_t step) {
  WorkerMessage message;
  *message.mutable_rank_exit()->mutable_key() = key;
  message.mutable_rank_exit()->set_rank(rank);
  message.mutable_rank_exit()->set_finished(true);
  message.mutable_rank_exit()->mutable_result()->set_step(step);
  say(message);
}

void FakeDaemon::push_metrics(const AttemptKey& key, int64_t first, int64_t last) {
  internal::v1::RecordBatch batch;
  *batch.mutable_key() = key;
  batch.set_batch(1);
  for (int64_t step = first; step <= last; ++step) {
    v1::MetricRecord& record = *batch.add_metrics();
    record.set_attempt(key.attempt());
    record.set_seq(step);
    record.mutable_report()->set_step(step);
    record.mutable_report()->set_loss(1.0 / static_cast<double>(step));
  }
  push(batch);
}

void FakeDaemon::push_logs(const AttemptKey& key, int64_t first, int64_t last, const std::string& line) {
  internal::v1::RecordBatch batch;
  *batch.mutable_key() = key;
  batch.set_batch(1);
  for (int64_t seq = first; seq <= last; ++seq) {
    v1::LogRecord& record = *batch.add_logs();
    record.set_attempt(key.attempt());
    record.set_seq(seq);
    record.set_line(line);
  }
  push(batch);
}

void FakeDaemon::push(const internal::v1::RecordBatch& batch) {
  grpc::ClientContext context;
  auto stream = stub_->PushRecords(&context);
  stream->Write(batch);
  internal::v1::RecordAck ack;
  EXPECT_TRUE(stream->Read(&ack)) << "records were not acknowledged";
  stream->WritesDone();
  stream->Finish();
}

}  // namespace qwen3::coordinator::testing
