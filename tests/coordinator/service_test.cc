// The coordinator in process, over real gRPC, with scripted daemons. Over 400 lines because its scenes share a fixture.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <set>
#include <thread>

#include "coordinator/coordinator.h"
#include "coordinator/state_lock.h"
#include "google/rpc/error_details.pb.h"
#include "proto/status.h"
#include "qwen3/v1/checkpoint.grpc.pb.h"
#include "qwen3/v1/job.grpc.pb.h"
#include "qwen3/v1/watch.grpc.pb.h"
#include "qwen3/v1/worker.grpc.pb.h"
#include "tests/coordinator/fake_daemon.h"
#include "tests/spec/stub_data_root.h"
#include "tests/temporary_folder.h"

namespace {

std::atomic<bool> log_disk_is_slow = false;

bool is_log(int fd) {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), error).extension() == ".logs";
}

}  // namespace

// In the place of libc's, so that a disk can be slow.
extern "C" ssize_t pread(int fd, void* into, size_t size, off_t offset) {
  if (log_disk_is_slow && is_log(fd)) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return syscall(SYS_pread64, fd, into, size, offset);
}

namespace qwen3::coordinator {
namespace {

using internal::v1::CoordinatorMessage;
using testing::FakeDaemon;

class ServiceTest : public ::testing::Test {
 protected:
  ServiceTest() {
    options_.listen = options_.worker_listen = options_.http_listen = "127.0.0.1:0";
    options_.state_dir = folder_.path() + "/state";
    options_.checkpoint_root = folder_.path() + "/checkpoints";
    options_.data_root = data_.path();
    start();
  }
  ~ServiceTest() override { coordinator_.reset(); }

  void start() {
    auto started = Coordinator::start(options_);
    ASSERT_TRUE(started.ok()) << started.status();
    coordinator_ = *std::move(started);
    const auto channel = grpc::CreateChannel("127.0.0.1:" + std::to_string(coordinator_->ports().api),
                                             grpc::InsecureChannelCredentials());
    jobs_ = v1::JobService::NewStub(channel);
    watch_ = v1::WatchService::NewStub(channel);
    checkpoints_ = v1::CheckpointService::NewStub(channel);
  }
  void restart() {
    coordinator_.reset();
    start();
  }
  int worker_port() const { return coordinator_->ports().worker; }

  static v1::CreateJobRequest request(int64_t slots) {
    v1::CreateJobRequest request;
    request.set_parent("tenants/default");
    v1::JobSpec& spec = *request.mutable_job()->mutable_spec();
    spec.mutable_model()->set_flavor("debugmodel");
    spec.mutable_training()->set_steps(100);
    spec.mutable_training()->set_seq_len(128);
    spec.mutable_resources()->set_slots(slots);
    return request;
  }
  absl::StatusOr<v1::Job> create(const v1::CreateJobRequest& request) {
    grpc::ClientContext context;
    v1::Job job;
    const grpc::Status status = jobs_->CreateJob(&context, request, &job);
    if (!status.ok()) return from_grpc(status);
    return job;
  }
  std::string submit(int64_t slots) {
    const auto job = create(request(slots));
    EXPECT_TRUE(job.ok()) << job.status();
    return job.ok() ? job->name() : "";
  }
  v1::Job get(const std::string& name) {
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_name(name);
    v1::Job job;
    EXPECT_TRUE(jobs_->GetJob(&context, request, &job).ok());
    return job;
  }
  // Follows the job's events until it is in `state`.
  void wait_for(const std::string& name, v1::JobState state) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::WatchRequest request;
    request.set_name(name);
    auto stream = watch_->WatchEvents(&context, request);
    v1::WatchEventsResponse response;
    while (stream->Read(&response)) {
      if (response.event().state() == state) return context.TryCancel();
    }
    FAIL() << name << " never was " << v1::JobState_Name(state);
  }

  spec::config::StubDataRoot data_;
  const qwen3::tests::TemporaryFolder folder_{"service"};
  Options options_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<v1::JobService::Stub> jobs_;
  std::unique_ptr<v1::WatchService::Stub> watch_;
  std::unique_ptr<v1::CheckpointService::Stub> checkpoints_;
};

TEST_F(ServiceTest, AJobRunsToSuccessAndItsCheckpointIsCommitted) {
  FakeDaemon a(worker_port(), "a", 1), b(worker_port(), "b", 1);
  const std::string name = submit(2);
  const auto on_a = a.accept_next(), on_b = b.accept_next();
  a.first_step(on_a.key(), 1);
  a.push_metrics(on_a.key(), 1, 5);
  wait_for(name, v1::JOB_STATE_RUNNING);
  a.prepare(on_a, on_a.ranks(0).rank(), 100);
  b.prepare(on_b, on_b.ranks(0).rank(), 100);
  EXPECT_EQ(a.next(CoordinatorMessage::kCheckpointCommitted).checkpoint_committed().step(), 100);
  a.finish(on_a.key(), on_a.ranks(0).rank(), 100);
  b.finish(on_b.key(), on_b.ranks(0).rank(), 100);
  wait_for(name, v1::JOB_STATE_SUCCEEDED);
  const v1::Job job = get(name);
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(job.latest_checkpoint(), name + "/checkpoints/step-100");
  EXPECT_FALSE(job.result().state_digest().empty());
  grpc::ClientContext context;
  v1::ListCheckpointsRequest list;
  list.set_parent(name);
  v1::ListCheckpointsResponse listed;
  ASSERT_TRUE(checkpoints_->ListCheckpoints(&context, list, &listed).ok());
  ASSERT_EQ(listed.checkpoints_size(), 1);
  EXPECT_TRUE(std::filesystem::exists(listed.checkpoints(0).folder() + "/manifest.json"));
}

TEST_F(ServiceTest, AKilledRankIsReplacedFromTheLastCheckpoint) {
  FakeDaemon a(worker_port(), "a", 2);
  const std::string name = submit(2);
  const auto first = a.accept_next();
  a.first_step(first.key(), 1);
  a.prepare(first, 0, 10);
  a.prepare(first, 1, 10);
  a.next(CoordinatorMessage::kCheckpointCommitted);
  a.exit_by_signal(first.key(), 1, 9);
  a.next(CoordinatorMessage::kAbort);
  a.exit_by_signal(first.key(), 0, 9, /*aborted=*/true);
  const auto second = a.accept_next();
  EXPECT_EQ(second.key().attempt(), 2);
  EXPECT_EQ(second.assignment().restore_step(), 10);
  EXPECT_TRUE(std::filesystem::exists(second.assignment().restore_folder() + "/manifest.json"));
  a.first_step(second.key(), 11);
  a.prepare(first, 0, 20);  // the old epoch
  EXPECT_EQ(a.next(CoordinatorMessage::kAbort).abort().key().epoch(), first.key().epoch());
  EXPECT_EQ(get(name).latest_checkpoint(), name + "/checkpoints/step-10");
}

TEST_F(ServiceTest, ARestartOfTheCoordinatorKeepsTheAttempt) {
  const std::string name = submit(1);
  internal::v1::Assign assign;
  {
    FakeDaemon a(worker_port(), "a", 1);
    assign = a.accept_next();
    a.first_step(assign.key(), 1);
    wait_for(name, v1::JOB_STATE_RUNNING);
    coordinator_->stop();
  }
  restart();
  FakeDaemon a(worker_port(), "a", 1, {assign.key()});
  a.prepare(assign, 0, 100);
  a.next(CoordinatorMessage::kCheckpointCommitted);
  a.finish(assign.key(), 0, 100);
  wait_for(name, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(get(name).attempt_count(), 1);
}

// As if the coordinator had died between the event and the deletion.
TEST_F(ServiceTest, APrunedCheckpointWhoseFilesAreStillThereDoesNotComeBackWithARestart) {
  v1::CreateJobRequest keeps_two = request(1);
  keeps_two.mutable_job()->mutable_spec()->mutable_checkpoint()->set_keep_latest_k(2);
  const auto job = create(keeps_two);
  ASSERT_TRUE(job.ok()) << job.status();
  const std::string copy = folder_.path() + "/copy";
  std::string pruned;
  {
    FakeDaemon a(worker_port(), "a", 1);
    const auto assign = a.accept_next();
    a.first_step(assign.key(), 1);
    pruned = assign.assignment().checkpoint_folder() + "/step-10.attempt-1";
    for (const int64_t step : {10, 20, 30}) {
      a.prepare(assign, 0, step);
      a.next(CoordinatorMessage::kCheckpointCommitted);
      if (step == 10) std::filesystem::copy(pruned, copy, std::filesystem::copy_options::recursive);
    }
    coordinator_->stop();
  }
  coordinator_.reset();
  std::filesystem::remove_all(pruned);
  std::filesystem::copy(copy, pruned, std::filesystem::copy_options::recursive);
  start();
  submit(1);  // what the start wrote is on disk before its answer
  EXPECT_FALSE(std::filesystem::exists(pruned));
  grpc::ClientContext context;
  v1::ListCheckpointsRequest list;
  list.set_parent(job->name());
  v1::ListCheckpointsResponse listed;
  ASSERT_TRUE(checkpoints_->ListCheckpoints(&context, list, &listed).ok());
  ASSERT_EQ(listed.checkpoints_size(), 3);
  EXPECT_EQ(listed.checkpoints(0).step(), 10);
  EXPECT_EQ(listed.checkpoints(0).state(), v1::CHECKPOINT_STATE_DELETED);
}

TEST_F(ServiceTest, AnUnreadableCheckpointStaysSoAfterARestart) {
  const std::string name = submit(1);
  {
    FakeDaemon a(worker_port(), "a", 1);
    const auto first = a.accept_next();
    a.first_step(first.key(), 1);
    for (const int64_t step : {10, 20}) {
      a.prepare(first, 0, step);
      a.next(CoordinatorMessage::kCheckpointCommitted);
    }
    a.exit_by_signal(first.key(), 0, 9);
    for (int attempt = 2; attempt <= 3; ++attempt) {
      const auto assign = a.accept_next();
      EXPECT_EQ(assign.assignment().restore_step(), 20);
      a.fail(assign.key(), 0, "CHECKPOINT_UNREADABLE");
    }
    EXPECT_EQ(a.accept_next().assignment().restore_step(), 10);
    coordinator_->stop();
  }
  restart();
  submit(1);  // what the start wrote is on disk before its answer
  EXPECT_EQ(get(name).latest_checkpoint(), name + "/checkpoints/step-10");
}

TEST_F(ServiceTest, AHundredConcurrentCallsWithOneRequestIdMakeOneJob) {
  v1::CreateJobRequest same = request(1);
  same.set_request_id("once");
  std::vector<std::string> names(100);
  std::vector<std::thread> callers;
  for (std::string& name : names) {
    callers.emplace_back([&] {
      const auto job = create(same);
      name = job.ok() ? job->name() : job.status().ToString();
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), 1u) << names[0];
  restart();
  EXPECT_EQ(create(same)->name(), names[0]) << "also after a restart";
  same.mutable_job()->mutable_spec()->mutable_training()->set_steps(7);
  EXPECT_TRUE(absl::IsAlreadyExists(create(same).status())) << "another body is another job";
  grpc::ClientContext context;
  v1::ListJobsRequest list;
  list.set_parent("tenants/default");
  v1::ListJobsResponse listed;
  ASSERT_TRUE(jobs_->ListJobs(&context, list, &listed).ok());
  EXPECT_EQ(listed.jobs_size(), 1);
}

TEST_F(ServiceTest, EveryViolationIsAnsweredAtOnce) {
  v1::CreateJobRequest bad = request(1);
  bad.mutable_job()->mutable_spec()->mutable_model()->set_flavor("7B");
  bad.mutable_job()->mutable_spec()->mutable_checkpoint()->set_initial_load_path("tenants/default/jobs/x");
  bad.set_job_id("No Good");
  const auto status = create(bad).status();
  ASSERT_TRUE(absl::IsInvalidArgument(status)) << status;
  google::rpc::BadRequest details;
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.BadRequest");
  ASSERT_TRUE(payload.has_value());
  ASSERT_TRUE(details.ParseFromString(std::string(*payload)));
  std::set<std::string> fields;
  for (const auto& violation : details.field_violations()) fields.insert(violation.field());
  EXPECT_THAT(fields, ::testing::IsSupersetOf({"job_id", "model.flavor", "checkpoint.initial_load_path"}));
}

TEST_F(ServiceTest, ATraceOfOneToAThousandStepsIsOrderedOnceAlsoOverARestart) {
  const std::string name = submit(1);
  const auto trace = [&](int64_t steps, const std::string& request_id) -> absl::StatusOr<v1::TraceJobResponse> {
    grpc::ClientContext context;
    v1::TraceJobRequest request;
    request.set_name(name);
    request.set_steps(steps);
    request.set_request_id(request_id);
    v1::TraceJobResponse response;
    const grpc::Status status = jobs_->TraceJob(&context, request, &response);
    if (!status.ok()) return from_grpc(status);
    return response;
  };
  EXPECT_TRUE(absl::IsFailedPrecondition(trace(1, "once").status())) << "it is queued";
  std::string folder;
  internal::v1::AttemptKey key;
  {
    FakeDaemon a(worker_port(), "a", 1);
    const auto assign = a.accept_next();
    key = assign.key();
    a.first_step(key, 1);
    wait_for(name, v1::JOB_STATE_RUNNING);
    for (const int64_t steps : {-1, 0, 1001}) EXPECT_TRUE(absl::IsInvalidArgument(trace(steps, "once").status()));
    EXPECT_TRUE(absl::IsInvalidArgument(trace(1, std::string(129, 'x')).status()));
    const auto ordered = trace(1000, "once");
    ASSERT_TRUE(ordered.ok()) << ordered.status();
    folder = ordered->folder();
    EXPECT_THAT(folder, ::testing::StartsWith(assign.assignment().checkpoint_folder() + "/traces/"));
    EXPECT_EQ(ordered->ranks(), 1);
    EXPECT_EQ(a.next(CoordinatorMessage::kControl).control().control().trace_steps(), 1000);
    coordinator_->stop();
  }
  restart();
  FakeDaemon a(worker_port(), "a", 1, {key});
  const auto again = trace(1000, "once");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->folder(), folder);
}

TEST_F(ServiceTest, ValidateOnlyPlansAndKeepsNothing) {
  v1::CreateJobRequest dry = request(2);
  dry.set_validate_only(true);
  auto job = create(dry);
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->plan().world_size(), 2);
  EXPECT_GT(job->plan().checkpoint_bytes(), 0);
  EXPECT_THAT(job->plan().waits(), ::testing::HasSubstr("needs 2 slots"));
  FakeDaemon a(worker_port(), "a", 2);
  job = create(dry);
  EXPECT_EQ(job->plan().waits(), "");
  EXPECT_EQ(job->plan().placement_size(), 2);
}

TEST_F(ServiceTest, AWatcherCutAHundredTimesSeesEveryEventOnceAndInOrder) {
  FakeDaemon a(worker_port(), "a", 1);
  const std::string name = submit(1);
  const auto assign = a.accept_next();
  a.first_step(assign.key(), 1);
  a.push_metrics(assign.key(), 1, 300);
  std::mt19937 random(5);
  std::vector<int64_t> steps;
  std::string token;
  for (int cut = 0; cut < 100 || steps.size() < 300; ++cut) {
    ASSERT_LT(cut, 1000) << "the stream does not advance";
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::WatchRequest watch;
    watch.set_name(name);
    watch.set_resume_token(token);
    watch.set_no_follow(true);
    auto stream = watch_->WatchMetrics(&context, watch);
    v1::WatchMetricsResponse response;
    for (size_t left = random() % 6; left > 0 && stream->Read(&response); --left) {
      token = response.resume_token();
      if (response.has_record()) steps.push_back(response.record().report().step());
    }
    context.TryCancel();
    if (cut == 50) restart();
  }
  ASSERT_EQ(steps.size(), 300u);
  for (size_t i = 0; i < steps.size(); ++i) ASSERT_EQ(steps[i], static_cast<int64_t>(i) + 1);
}

// As many watches as there are readers, each over 500 lines that it does not want: at two reads a line, of 10 ms each,
// their scans take 10 s.
TEST_F(ServiceTest, AWatchThatFindsNothingLeavesTheReadersToOthers) {
  FakeDaemon a(worker_port(), "a", 1);
  const std::string name = submit(1);
  const auto assign = a.accept_next();
  a.first_step(assign.key(), 1);
  a.push_logs(assign.key(), 1, 500, std::string(8 << 10, 'x'));
  log_disk_is_slow = true;
  grpc::ClientContext watching[2];
  std::vector<std::unique_ptr<grpc::ClientReader<v1::WatchLogsResponse>>> streams;
  for (grpc::ClientContext& context : watching) {
    v1::WatchLogsRequest watch;
    watch.set_name(name);
    watch.add_ranks(999);
    streams.push_back(watch_->WatchLogs(&context, watch));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // until both scan
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(3));
  v1::ListCheckpointsRequest list;
  list.set_parent(name);
  v1::ListCheckpointsResponse listed;
  EXPECT_TRUE(checkpoints_->ListCheckpoints(&context, list, &listed).ok()) << "it waited for the scans";
  log_disk_is_slow = false;
  for (grpc::ClientContext& watcher : watching) watcher.TryCancel();
}

TEST_F(ServiceTest, AFilteredWatchStillEndsWithItsJobsRecords) {
  FakeDaemon a(worker_port(), "a", 1);
  const std::string name = submit(1);
  const auto assign = a.accept_next();
  a.push_logs(assign.key(), 1, 50, std::string(8 << 10, 'x'));
  grpc::ClientContext context;
  v1::WatchLogsRequest watch;
  watch.set_name(name);
  watch.add_ranks(999);
  watch.set_no_follow(true);
  auto stream = watch_->WatchLogs(&context, watch);
  v1::WatchLogsResponse response;
  std::string reason;
  while (stream->Read(&response)) {
    EXPECT_FALSE(response.has_record());
    reason = response.end().reason();
  }
  EXPECT_EQ(reason, "NO_FOLLOW");
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServiceTest, AStopEndsStreamsWithATokenAndPromptly) {
  const std::string name = submit(1);
  grpc::ClientContext context;
  v1::WatchRequest watch;
  watch.set_name(name);
  auto stream = watch_->WatchEvents(&context, watch);
  v1::WatchEventsResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.event().seq(), 1);
  const auto before = std::chrono::steady_clock::now();
  coordinator_->stop();
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::milliseconds(1900)) << "it waited for the stream";
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.end().reason(), "DRAINING");
  EXPECT_EQ(response.resume_token(), "e1:1");
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServiceTest, ATokenThatIsNoneIsOutOfRange) {
  const std::string name = submit(1);
  for (const char* token : {"nonsense", "m1:0", "e1:-1", "e1:99", "e1:"}) {
    grpc::ClientContext context;
    v1::WatchRequest watch;
    watch.set_name(name);
    watch.set_resume_token(token);
    auto stream = watch_->WatchEvents(&context, watch);
    v1::WatchEventsResponse response;
    while (stream->Read(&response)) ADD_FAILURE() << token << " was accepted";
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::OUT_OF_RANGE) << token;
  }
}

TEST_F(ServiceTest, ASecondCoordinatorOnOneStateFolderIsRefusedWithTheHoldersPid) {
  const auto second = Coordinator::start(options_);
  EXPECT_TRUE(absl::IsAborted(second.status()));
  EXPECT_THAT(std::string(second.status().message()), ::testing::HasSubstr(std::to_string(getpid())));
}

TEST(StateLock, ADiskWithoutRoomForThePidIsNoReasonNotToStart) {
  const qwen3::tests::TemporaryFolder folder("lock");
  std::filesystem::create_symlink("/dev/full", folder.file("lock"));
  const auto lock = StateLock::take(folder.path());
  EXPECT_TRUE(lock.ok()) << lock.status();
}

TEST_F(ServiceTest, AnAddressThatIsNotLoopbackIsRefused) {
  Options open = options_;
  open.state_dir = folder_.path() + "/other";
  open.listen = "0.0.0.0:0";
  EXPECT_THAT(std::string(Coordinator::start(open).status().message()), ::testing::HasSubstr("--insecure"));
}

}  // namespace
}  // namespace qwen3::coordinator
