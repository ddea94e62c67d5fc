// Evaluations, conversions and their operations over real gRPC, with scripted daemons.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <span>
#include <thread>
#include <vector>

#include "checkpoint/safetensors.h"
#include "coordinator/coordinator.h"
#include "google/longrunning/operations.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "qwen3/v1/checkpoint.grpc.pb.h"
#include "qwen3/v1/job.grpc.pb.h"
#include "qwen3/v1/operation.grpc.pb.h"
#include "tests/coordinator/fake_daemon.h"
#include "tests/spec/stub_data_root.h"
#include "tests/temporary_folder.h"

namespace qwen3::coordinator {
namespace {

using google::longrunning::Operation;
using internal::v1::AttemptKey;
using internal::v1::CoordinatorMessage;
using internal::v1::WorkerMessage;
using testing::FakeDaemon;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::UnorderedElementsAre;

class TaskServiceTest : public ::testing::Test {
 protected:
  TaskServiceTest() {
    std::filesystem::create_directories(folder_ + "/hf");
    std::ofstream(folder_ + "/hf/config.json") << "{}";
    const std::vector<int64_t> ids = {1, 2, 3, 4};
    const checkpoint::TensorBytes tensor{"ids", checkpoint::Dtype::kInt64, {2, 2}, std::as_bytes(std::span(ids))};
    EXPECT_TRUE(checkpoint::write_safetensors(tokens(), std::span(&tensor, 1)).ok());
    options_.listen = options_.worker_listen = options_.http_listen = "127.0.0.1:0";
    options_.state_dir = folder_ + "/state";
    options_.checkpoint_root = folder_ + "/checkpoints";
    options_.data_root = data_.path();
    start();
  }

  void start() {
    auto started = Coordinator::start(options_);
    ASSERT_TRUE(started.ok()) << started.status();
    coordinator_ = *std::move(started);
    const auto channel = grpc::CreateChannel("127.0.0.1:" + std::to_string(coordinator_->ports().api),
                                             grpc::InsecureChannelCredentials());
    jobs_ = v1::JobService::NewStub(channel);
    checkpoints_ = v1::CheckpointService::NewStub(channel);
    evaluations_ = v1::EvaluationService::NewStub(channel);
    conversions_ = v1::ConversionService::NewStub(channel);
    operations_ = google::longrunning::Operations::NewStub(channel);
  }
  std::string tokens() const { return folder_ + "/tokens.safetensors"; }
  int worker_port() const { return coordinator_->ports().worker; }

  v1::EvaluateRequest request() const {
    v1::EvaluateRequest request;
    request.set_parent("tenants/default");
    request.mutable_evaluation()->mutable_model()->set_hf(folder_ + "/hf");
    request.mutable_evaluation()->set_tokens_file(tokens());
    return request;
  }
  grpc::Status evaluate(const v1::EvaluateRequest& request, Operation* operation) {
    grpc::ClientContext context;
    return evaluations_->Evaluate(&context, request, operation);
  }
  std::string evaluate(const v1::EvaluateRequest& request) {
    Operation operation;
    const grpc::Status status = evaluate(request, &operation);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return operation.name();
  }
  Operation wait(const std::string& name) {
    grpc::ClientContext context;
    google::longrunning::WaitOperationRequest request;
    request.set_name(name);
    request.mutable_timeout()->set_seconds(20);
    Operation operation;
    const grpc::Status status = operations_->WaitOperation(&context, request, &operation);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return operation;
  }
  grpc::Status cancel(const std::string& name) {
    grpc::ClientContext context;
    google::longrunning::CancelOperationRequest request;
    request.set_name(name);
    google::protobuf::Empty response;
    return operations_->CancelOperation(&context, request, &response);
  }
  static void finish(FakeDaemon& daemon, const AttemptKey& key, double loss) {
    WorkerMessage message;
    *message.mutable_rank_exit()->mutable_key() = key;
    message.mutable_rank_exit()->set_finished(true);
    message.mutable_rank_exit()->mutable_result()->mutable_evaluation()->set_loss(loss);
    daemon.say(message);
  }
  static v1::TaskMetadata metadata_of(const Operation& operation) {
    v1::TaskMetadata metadata;
    EXPECT_TRUE(operation.metadata().UnpackTo(&metadata));
    return metadata;
  }
  static std::vector<std::string> fields_of(const grpc::Status& status) {
    google::rpc::Status details;
    details.ParseFromString(status.error_details());
    google::rpc::BadRequest bad;
    for (const google::protobuf::Any& any : details.details()) any.UnpackTo(&bad);
    std::vector<std::string> fields;
    for (const auto& violation : bad.field_violations()) fields.push_back(violation.field());
    return fields;
  }

  spec::config::StubDataRoot data_;
  const tests::TemporaryFolder temporary_{"tasks"};
  const std::string& folder_ = temporary_.path();
  Options options_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<v1::JobService::Stub> jobs_;
  std::unique_ptr<v1::CheckpointService::Stub> checkpoints_;
  std::unique_ptr<v1::EvaluationService::Stub> evaluations_;
  std::unique_ptr<v1::ConversionService::Stub> conversions_;
  std::unique_ptr<google::longrunning::Operations::Stub> operations_;
};

TEST_F(TaskServiceTest, AnEvaluationIsAcceptedAssignedAndItsResultReturned) {
  FakeDaemon a(worker_port(), "a", 1);
  const std::string name = evaluate(request());
  const auto assign = a.accept_next();
  EXPECT_EQ(assign.key().job(), name);
  EXPECT_EQ(assign.assignment().evaluation().dtype(), "float32");
  EXPECT_EQ(assign.assignment().evaluation().model().hf(), folder_ + "/hf");
  EXPECT_EQ(assign.assignment().spec().parallelism().data_parallel_shard_degree(), 1);
  finish(a, assign.key(), 1.25);
  const Operation operation = wait(name);
  EXPECT_TRUE(operation.done());
  v1::EvaluationResult result;
  ASSERT_TRUE(operation.response().UnpackTo(&result)) << operation.ShortDebugString();
  EXPECT_EQ(result.loss(), 1.25);
  EXPECT_EQ(metadata_of(operation).state(), v1::JOB_STATE_SUCCEEDED);

  grpc::ClientContext list_context, jobs_context;
  google::longrunning::ListOperationsRequest list;
  list.set_name("tenants/default");
  google::longrunning::ListOperationsResponse listed;
  ASSERT_TRUE(operations_->ListOperations(&list_context, list, &listed).ok());
  ASSERT_EQ(listed.operations_size(), 1);
  EXPECT_EQ(listed.operations(0).name(), name);
  v1::ListJobsRequest list_jobs;
  list_jobs.set_parent("tenants/default");
  v1::ListJobsResponse listed_jobs;
  ASSERT_TRUE(jobs_->ListJobs(&jobs_context, list_jobs, &listed_jobs).ok());
  EXPECT_EQ(listed_jobs.jobs_size(), 0) << "a task is no job";
}

TEST_F(TaskServiceTest, AConversionTakesNoSlotAndAnErrorCarriesTheRanksSentence) {
  FakeDaemon a(worker_port(), "a", 1);
  evaluate(request());
  a.accept_next();  // the only slot is taken
  grpc::ClientContext context;
  v1::ConvertRequest convert;
  convert.set_parent("tenants/default");
  convert.mutable_conversion()->mutable_from()->set_hf(folder_ + "/hf");
  convert.mutable_conversion()->set_native(folder_ + "/native");
  Operation operation;
  const grpc::Status status = conversions_->Convert(&context, convert, &operation);
  ASSERT_TRUE(status.ok()) << status.error_message();
  const auto assign = a.accept_next();
  EXPECT_EQ(assign.ranks(0).slot(), -1);
  WorkerMessage message;
  *message.mutable_rank_exit()->mutable_key() = assign.key();
  message.mutable_rank_exit()->set_exit_code(1);
  message.mutable_rank_exit()->mutable_failure()->set_class_(v1::FAILURE_CLASS_USER);
  message.mutable_rank_exit()->mutable_failure()->set_message("layers.7 is missing");
  a.say(message);
  operation = wait(operation.name());
  ASSERT_TRUE(operation.has_error());
  EXPECT_EQ(operation.error().code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(operation.error().message(), "layers.7 is missing");
  EXPECT_EQ(metadata_of(operation).state(), v1::JOB_STATE_FAILED);
}

TEST_F(TaskServiceTest, ACoordinatorThatStopsDuringAnEvaluationStillHearsItsResult) {
  v1::EvaluateRequest once = request();
  once.set_request_id("once");
  std::string name;
  internal::v1::Assign assign;
  {
    FakeDaemon a(worker_port(), "a", 1);
    name = evaluate(once);
    assign = a.accept_next();
    coordinator_->stop();
  }
  coordinator_.reset();
  start();
  EXPECT_EQ(evaluate(once), name) << "the same request_id after a restart";
  once.mutable_evaluation()->set_dtype("float64");
  Operation other;
  EXPECT_EQ(evaluate(once, &other).error_code(), grpc::StatusCode::ALREADY_EXISTS);
  FakeDaemon a(worker_port(), "a", 1, {assign.key()});
  finish(a, assign.key(), 0.5);
  EXPECT_TRUE(wait(name).has_response());
}

TEST_F(TaskServiceTest, CancelEndsAnOperationWithItsCode) {
  FakeDaemon a(worker_port(), "a", 1);
  const std::string running = evaluate(request()), waiting = evaluate(request());
  const auto assign = a.accept_next();
  EXPECT_TRUE(cancel(waiting).ok());
  EXPECT_TRUE(cancel(running).ok());
  EXPECT_EQ(a.next(CoordinatorMessage::kAbort).abort().key().job(), running);
  a.exit_by_signal(assign.key(), 0, 9, /*aborted=*/true);
  for (const std::string& name : {waiting, running}) {
    const Operation operation = wait(name);
    EXPECT_EQ(operation.error().code(), grpc::StatusCode::CANCELLED) << operation.ShortDebugString();
  }
  EXPECT_EQ(cancel("tenants/default/operations/op-none").error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(cancel("tenants/default/jobs/j").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(TaskServiceTest, AWaitEndsWithItsTimeAndShowsHowFarTheTaskIs) {
  FakeDaemon a(worker_port(), "a", 1);
  const std::string name = evaluate(request());
  const auto assign = a.accept_next();
  WorkerMessage beat;
  internal::v1::AttemptProgress& progress = *beat.mutable_beat()->add_progress();
  *progress.mutable_key() = assign.key();
  progress.mutable_task()->set_done(3);
  progress.mutable_task()->set_total(8);
  a.say(beat);
  a.next(CoordinatorMessage::kBeatAck);
  grpc::ClientContext context;
  google::longrunning::WaitOperationRequest wait;
  wait.set_name(name);
  wait.mutable_timeout()->set_nanos(1);
  Operation operation;
  ASSERT_TRUE(operations_->WaitOperation(&context, wait, &operation).ok());
  EXPECT_FALSE(operation.done());
  EXPECT_EQ(metadata_of(operation).done(), 3);
  EXPECT_EQ(metadata_of(operation).total(), 8);
}

TEST_F(TaskServiceTest, EveryViolationIsNamedAtOnce) {
  v1::EvaluateRequest bad;
  bad.set_parent("tenants/other");
  v1::EvaluationSpec& spec = *bad.mutable_evaluation();
  spec.mutable_model()->set_hf("relative");
  spec.set_tokens_file(folder_ + "/none");
  spec.set_dtype("float8");
  spec.set_write_logits(true);
  spec.set_seq_len(-1);
  spec.mutable_parallelism()->set_data_parallel_replicate_degree(3);
  spec.mutable_resources()->set_slots(2);
  Operation operation;
  const grpc::Status status = evaluate(bad, &operation);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(fields_of(status),
              IsSupersetOf({"parent", "evaluation.model.hf", "evaluation.tokens_file", "evaluation.dtype",
                            "evaluation.output_folder", "evaluation.seq_len", "evaluation.parallelism"}));

  bad = request();
  bad.mutable_evaluation()->clear_model();
  bad.mutable_evaluation()->clear_tokens_file();
  bad.mutable_evaluation()->set_output_folder(folder_ + "/out");
  EXPECT_THAT(fields_of(evaluate(bad, &operation)),
              UnorderedElementsAre("evaluation.model", "evaluation", "evaluation.output_folder"));

  grpc::ClientContext context;
  v1::ConvertRequest convert;
  convert.set_parent("tenants/default");
  convert.mutable_conversion()->mutable_from()->set_hf(folder_ + "/hf");
  convert.mutable_conversion()->set_native(folder_ + "/hf/inside");
  convert.mutable_conversion()->set_dtype("bfloat16");
  EXPECT_THAT(fields_of(conversions_->Convert(&context, convert, &operation)),
              UnorderedElementsAre("conversion.native", "conversion.dtype"));
}

TEST_F(TaskServiceTest, AJobsNewestCheckpointIsEvaluatedWhileItRunsAndShowsTheResult) {
  FakeDaemon a(worker_port(), "a", 2);
  grpc::ClientContext context;
  v1::CreateJobRequest create;
  create.set_parent("tenants/default");
  create.set_job_id("j");
  create.mutable_job()->mutable_spec()->mutable_model()->set_flavor("debugmodel");
  create.mutable_job()->mutable_spec()->mutable_training()->set_steps(100);
  create.mutable_job()->mutable_spec()->mutable_training()->set_seq_len(128);
  v1::Job job;
  ASSERT_TRUE(jobs_->CreateJob(&context, create, &job).ok());
  const auto training = a.accept_next();
  a.first_step(training.key(), 1);
  v1::EvaluateRequest of_job = request();
  of_job.mutable_evaluation()->mutable_model()->set_checkpoint(job.name());
  Operation operation;
  EXPECT_THAT(evaluate(of_job, &operation).error_message(), HasSubstr("no committed checkpoint yet"));
  a.prepare(training, 0, 10);
  a.next(CoordinatorMessage::kCheckpointCommitted);
  const std::string name = evaluate(of_job);
  const auto assign = a.accept_next();
  EXPECT_THAT(assign.assignment().evaluation().model().native(), HasSubstr("/j/step-10.attempt-1"));
  finish(a, assign.key(), 2.0);
  wait(name);
  grpc::ClientContext get_context;
  v1::GetCheckpointRequest get;
  get.set_name(job.name() + "/checkpoints/step-10");
  v1::Checkpoint checkpoint;
  ASSERT_TRUE(checkpoints_->GetCheckpoint(&get_context, get, &checkpoint).ok());
  ASSERT_EQ(checkpoint.evaluations_size(), 1);
  EXPECT_EQ(checkpoint.evaluations(0).operation(), name);
  EXPECT_EQ(checkpoint.evaluations(0).data(), tokens());
  EXPECT_EQ(checkpoint.evaluations(0).result().loss(), 2.0);
}

TEST_F(TaskServiceTest, OperationsAreKept) {
  grpc::ClientContext context;
  google::longrunning::DeleteOperationRequest request;
  request.set_name("tenants/default/operations/op-x");
  google::protobuf::Empty response;
  const grpc::Status status = operations_->DeleteOperation(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), HasSubstr("CancelOperation"));
}

}  // namespace
}  // namespace qwen3::coordinator
