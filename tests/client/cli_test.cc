// What qwen3ctl prints and how it exits, against a scripted server.
// Long because it holds the exact output of every command, so that a change of any of them is seen.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "client/arguments.h"
#include "client/exit_code.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/client/fake_server.h"
#include "tests/temporary_folder.h"

namespace qwen3::client {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using testing::FakeServer;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

struct Outcome {
  int code;
  std::string out, err;
};

v1::Job job_in(v1::JobState state) {
  v1::Job job;
  job.set_name("tenants/default/jobs/a");
  job.set_state(state);
  job.mutable_spec()->mutable_training()->set_steps(400);
  job.mutable_spec()->mutable_job()->set_description("a first try");
  job.mutable_progress()->set_step(120);
  job.mutable_progress()->set_total_steps(400);
  job.mutable_progress()->set_loss(5.25);
  job.mutable_progress()->set_tokens_per_second(3456.7);
  job.set_attempt_count(1);
  job.mutable_create_time()->set_seconds(1700000000);
  return job;
}

v1::StepSplit split() {
  v1::StepSplit split;
  split.set_compute_seconds(0.3);
  (*split.mutable_wait_seconds())["tp"] = 0.025;
  (*split.mutable_wait_seconds())["dp_shard"] = 0.075;
  split.set_optimizer_seconds(0.04);
  split.set_data_seconds(0.02);
  split.set_other_seconds(0.04);
  return split;
}

v1::Job succeeded() {
  v1::Job job = job_in(v1::JOB_STATE_SUCCEEDED);
  job.mutable_progress()->set_step(400);
  v1::Result& result = *job.mutable_result();
  result.set_first_loss(7.625);
  result.set_final_loss(4.5);
  result.set_validation_loss(4.75);
  result.set_has_validation(true);
  result.set_tokens_per_second(3000);
  job.set_latest_checkpoint("tenants/default/jobs/a/checkpoints/step-400");
  job.set_hf_export("/root/a/hf");
  return job;
}

v1::Job failed(v1::FailureClass whose) {
  v1::Job job = job_in(v1::JOB_STATE_FAILED);
  job.mutable_failure()->set_class_(whose);
  job.mutable_failure()->set_reason("NON_FINITE");
  job.mutable_failure()->set_message("the loss is nan");
  job.mutable_failure()->set_rank(1);
  job.mutable_failure()->set_step(121);
  return job;
}

std::string base64_of_byte(int byte) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  return {kDigits[byte >> 2], kDigits[(byte & 3) << 4], '=', '='};
}

class Cli : public ::testing::Test {
 protected:
  Outcome run(std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.begin(), {"qwen3ctl", "--address", server_.address()});
    std::vector<const char*> argv;
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    std::istringstream in(input);
    std::ostringstream out, err;
    const int code = run_cli(static_cast<int>(argv.size()), argv.data(), {in, out, err});
    return {code, out.str(), err.str()};
  }

  std::string write_toml(const std::string& text) {
    const std::string path = folder_.file("job.toml");
    std::ofstream(path) << text;
    return path;
  }

  void add(const v1::Job& job) { server_.jobs[job.name()] = job; }

  const qwen3::tests::TemporaryFolder folder_{"cli"};
  FakeServer server_;
};

TEST_F(Cli, ListIsATableOfJobs) {
  add(job_in(v1::JOB_STATE_RUNNING));
  v1::Job queued;
  queued.set_name("tenants/default/jobs/second");
  queued.set_state(v1::JOB_STATE_QUEUED);
  queued.mutable_spec()->mutable_training()->set_steps(10);
  add(queued);
  const Outcome list = run({"list"});
  EXPECT_EQ(list.code, kSucceeded);
  EXPECT_EQ(list.out,
            "JOB     STATE    STEP     LOSS    TOKENS/S  ATTEMPTS  CREATED              DESCRIPTION\n"
            "a       RUNNING  120/400  5.2500  3457      1         2023-11-14 22:13:20  a first try\n"
            "second  QUEUED   0/10     -       -         0         -\n");
}

TEST_F(Cli, ListAsJsonHasNumbersWordsAndTimes) {
  add(job_in(v1::JOB_STATE_RUNNING));
  const Outcome list = run({"list", "--output", "json"});
  const Json job = Json::parse(list.out).at(0);
  EXPECT_EQ(job.at("name"), "tenants/default/jobs/a");
  EXPECT_EQ(job.at("state"), "RUNNING");
  EXPECT_EQ(job.at("progress").at("step"), 120);  // a number, although protobuf's own JSON writes int64 as strings
  EXPECT_EQ(job.at("create_time"), "2023-11-14T22:13:20+00:00");
  EXPECT_FALSE(job.contains("failure"));
}

TEST_F(Cli, DescribeSaysAllAboutAJob) {
  v1::Job job = failed(v1::FAILURE_CLASS_USER);
  job.mutable_plan()->add_mesh()->set_name("dp_shard");
  job.mutable_plan()->mutable_mesh(0)->set_degree(2);
  job.mutable_plan()->set_world_size(2);
  job.mutable_plan()->mutable_bytes_per_rank()->set_total(3 << 29);
  (*job.mutable_plan()->mutable_bytes_sent_per_step())["tp"] = 3 << 20;
  (*job.mutable_plan()->mutable_bytes_sent_per_step())["dp_shard"] = 5 << 20;
  job.add_warnings("job.toml:3: comm.trace_buf_size has no effect here");
  job.mutable_spec()->mutable_debug()->set_ordered(true);
  add(job);
  v1::Attempt& attempt = server_.attempts.emplace_back();
  attempt.set_number(1);
  attempt.set_epoch(3);
  attempt.set_last_step(120);
  *attempt.mutable_failure() = job.failure();

  const Outcome describe = run({"describe", "a"});

  EXPECT_EQ(describe.code, kSucceeded);
  EXPECT_EQ(describe.out,
            "job: tenants/default/jobs/a\n"
            "state: FAILED\n"
            "failure: USER(NON_FINITE): the loss is nan [rank 1, step 121]\n"
            "created: 2023-11-14 22:13:20\n"
            "started: -\n"
            "ended: -\n"
            "epoch: 0\n"
            "progress: step 120/400, loss 5.2500, 3457 tokens/s\n"
            "warning: job.toml:3: comm.trace_buf_size has no effect here\n"
            "attempts:\n"
            "  ATTEMPT  EPOCH  STARTED  ENDED  FROM STEP  LAST STEP  RANKS  FAILURE\n"
            "  1        3      -        -      0          120        0      "
            "USER(NON_FINITE): the loss is nan [rank 1, step 121]\n"
            "plan:\n"
            "  mesh: dp_shard=2 (2 ranks)\n"
            "  parameters: 0\n"
            "  microbatches per rank and step: 0\n"
            "  compute dtype: \n"
            "  FLOPs per step: 0.000e+00\n"
            "  memory per rank: 1.5 GiB (parameters 0 B, gradients 0 B, moments 0 B, activations 0 B)\n"
            "  sent per rank and step: dp_shard 5.0 MiB, tp 3.0 MiB\n"
            "  checkpoint: 0 B\n"
            "  start: at once\n"
            "spec:\n"
            "  [job]\n"
            "  description = \"a first try\"\n"
            "  [training]\n"
            "  steps = 400\n"
            "  [debug]\n"
            "  ordered = true\n");
}

TEST_F(Cli, DescribeShowsWhereAStepsTimeGoes) {
  v1::Job job = job_in(v1::JOB_STATE_RUNNING);
  *job.mutable_progress()->mutable_split() = split();
  *job.mutable_progress()->mutable_mean_split() = split();
  job.mutable_progress()->mutable_mean_split()->set_data_seconds(0.52);
  add(job);
  EXPECT_THAT(run({"describe", "a"}).out,
              AllOf(HasSubstr("last step on rank 0: 0.500 s: compute 0.300 (60%), wait dp_shard 0.075 (15%), "
                              "wait tp 0.025 (5%), optimizer 0.040 (8%), data 0.020 (4%), other 0.040 (8%)\n"),
                    HasSubstr("mean of the attempt: 1.000 s: compute 0.300 (30%)")));
}

// What a rank writes of these steps.
void write_trace(const std::string& folder, int rank, const std::vector<int>& steps, int dropped = 0) {
  Json events = Json::array();
  events.push_back({{"name", "process_name"}, {"ph", "M"}, {"pid", rank}});
  for (const int step : steps) {
    events.push_back({{"name", "step " + std::to_string(step)}, {"cat", "step"}, {"ph", "X"}, {"pid", rank}});
  }
  std::ofstream(folder + "/rank" + std::to_string(rank) + "_trace.json")
      << Json{{"otherData", {{"dropped_spans", dropped}}}, {"traceEvents", events}};
}

TEST_F(Cli, TraceMergesTheFilesOfAllRanks) {
  const qwen3::tests::TemporaryFolder folder("trace");
  add(job_in(v1::JOB_STATE_RUNNING));
  server_.trace = [&](const v1::TraceJobRequest& request, v1::TraceJobResponse* response) {
    EXPECT_EQ(request.name(), "tenants/default/jobs/a");
    EXPECT_EQ(request.steps(), 2);
    for (int rank = 0; rank < 2; ++rank) write_trace(folder.path(), rank, {7, 8});
    response->set_folder(folder.path());
    response->set_ranks(2);
    return grpc::Status::OK;
  };
  const std::string output = folder.path() + "/all.json";
  const Outcome trace = run({"trace", "a", "--steps", "2", "--output", output});
  EXPECT_EQ(trace.code, kSucceeded) << trace.err;
  EXPECT_EQ(trace.out, output + ": 2 steps of 2 ranks; open it in https://ui.perfetto.dev or chrome://tracing\n");
  EXPECT_THAT(trace.err, Not(HasSubstr("warning")));
  std::ifstream file(output);
  const Json all = Json::parse(file);
  ASSERT_EQ(all.at("traceEvents").size(), 6u);
  EXPECT_EQ(all.at("traceEvents")[5].at("name"), "step 8");
  EXPECT_EQ(all.at("traceEvents")[5].at("pid"), 1);
}

TEST_F(Cli, TraceSaysHowManyStepsAllRanksHaveAndWhatTheyDropped) {
  const qwen3::tests::TemporaryFolder folder("trace");
  add(job_in(v1::JOB_STATE_RUNNING));
  server_.trace = [&](const v1::TraceJobRequest&, v1::TraceJobResponse* response) {
    response->set_folder(folder.path());
    response->set_ranks(2);
    return grpc::Status::OK;
  };
  const std::string output = folder.path() + "/all.json";
  const std::vector<std::string> command = {"trace", "a", "--steps", "3", "--output", output};
  write_trace(folder.path(), 0, {7});
  write_trace(folder.path(), 1, {7});
  const Outcome cut = run(command);
  EXPECT_THAT(cut.out, HasSubstr(": 1 step of 2 ranks"));
  EXPECT_THAT(cut.err, EndsWith("\nwarning: only 1 of 3 steps are there, because the run ended\n"));

  write_trace(folder.path(), 0, {7, 8, 9}, /*dropped=*/4);
  write_trace(folder.path(), 1, {7, 8}, /*dropped=*/5);
  const Outcome dropped = run(command);
  EXPECT_THAT(dropped.out, HasSubstr(": 2 steps of 2 ranks"));
  EXPECT_THAT(dropped.err, EndsWith("\nwarning: 9 spans were dropped, as a rank keeps only so many; ask for fewer steps"
                                    "\nwarning: only 2 of 3 steps are there\n"));
  std::ifstream file(output);
  EXPECT_EQ(Json::parse(file).at("otherData").at("dropped_spans"), 9);
}

TEST_F(Cli, TraceOfAnAttemptThatEndsSaysWhichFileIsMissing) {
  add(succeeded());
  server_.trace = [](const v1::TraceJobRequest&, v1::TraceJobResponse* response) {
    response->set_folder("/nowhere");
    response->set_ranks(1);
    return grpc::Status::OK;
  };
  const Outcome trace = run({"trace", "a"});
  EXPECT_NE(trace.code, kSucceeded);
  EXPECT_THAT(trace.err, HasSubstr("the attempt ended before rank 0 wrote /nowhere/rank0_trace.json"));

  server_.jobs.clear();
  add(job_in(v1::JOB_STATE_RECOVERING));  // and may wait for slots for ever
  EXPECT_THAT(run({"trace", "a"}).err, HasSubstr("the attempt ended before rank 0 wrote"));
}

TEST_F(Cli, SubmitSendsTheFileWithTheOverrides) {
  v1::CreateJobRequest sent;
  server_.create = [&](const v1::CreateJobRequest& request, v1::Job* job) {
    sent = request;
    job->set_name("tenants/default/jobs/mine");
    job->set_state(v1::JOB_STATE_QUEUED);
    job->set_pending_reason("WAITING_FOR_SLOTS");
    job->add_warnings("no validation");
    return grpc::Status::OK;
  };
  const std::string file = write_toml("[model]\nflavor = \"debugmodel\"\n[training]\nsteps = 5\nseq_len = 64\n");

  const Outcome submit = run({"submit", file, "--set", "training.steps=7", "--set", "job.description=two words",
                              "--job-id", "mine", "--request-id", "once"});

  EXPECT_EQ(submit.code, kSucceeded) << submit.err;
  EXPECT_EQ(submit.out, "job mine submitted: QUEUED (WAITING_FOR_SLOTS)\n");
  EXPECT_EQ(submit.err, "warning: no validation\nfollow it with: qwen3ctl watch mine\n");
  EXPECT_EQ(sent.job_id(), "mine");
  EXPECT_EQ(sent.request_id(), "once");
  EXPECT_EQ(sent.parent(), "tenants/default");
  EXPECT_FALSE(sent.validate_only());
  EXPECT_EQ(sent.job().spec().model().flavor(), "debugmodel");
  EXPECT_EQ(sent.job().spec().training().steps(), 7);
  EXPECT_EQ(sent.job().spec().training().seq_len(), 64);
  EXPECT_EQ(sent.job().spec().job().description(), "two words");
}

TEST_F(Cli, SubmitSendsPathsAbsolute) {
  v1::JobSpec sent;
  server_.create = [&](const v1::CreateJobRequest& request, v1::Job*) {
    sent = request.job().spec();
    return grpc::Status::OK;
  };
  run({"submit", write_toml("[training]\ndataset_path = \"plays\"\n")});
  EXPECT_EQ(sent.training().dataset_path(), std::filesystem::current_path() / "plays");
}

TEST_F(Cli, QuietSubmitPrintsTheNameOnly) {
  const Outcome submit = run({"submit", write_toml("[model]\nflavor = \"debugmodel\"\n"), "-q"});
  EXPECT_EQ(submit.code, kSucceeded);
  EXPECT_EQ(submit.out, "tenants/default/jobs/made\n");
  EXPECT_EQ(submit.err, "");
}

TEST_F(Cli, DryRunAsksOnlyForThePlan) {
  server_.create = [](const v1::CreateJobRequest& request, v1::Job* job) {
    if (!request.validate_only()) return grpc::Status(grpc::StatusCode::INTERNAL, "a dry run must not submit");
    job->mutable_plan()->set_world_size(4);
    job->mutable_plan()->set_waits("2 of 4 slots are free");
    return grpc::Status::OK;
  };
  const Outcome submit = run({"submit", write_toml("[model]\nflavor = \"debugmodel\"\n"), "--dry-run"});
  EXPECT_EQ(submit.code, kSucceeded) << submit.err;
  EXPECT_THAT(submit.out, HasSubstr("(4 ranks)"));
  EXPECT_THAT(submit.out, HasSubstr("start: 2 of 4 slots are free"));
}

TEST_F(Cli, ABadFileIsRefusedWithFileAndLineBeforeAnythingIsSent) {
  const std::string file = write_toml("[training]\nstepz = 5\n");
  const Outcome submit = run({"submit", file});
  EXPECT_EQ(submit.code, kRefused);
  EXPECT_THAT(submit.err, HasSubstr(file + ":2: "));
  EXPECT_THAT(submit.err, HasSubstr("steps"));  // the nearest valid name
  EXPECT_EQ(server_.calls(), 0);
}

TEST_F(Cli, ViolationsOfTheServerAreOneLineEachWithFileAndLine) {
  server_.create = [](const v1::CreateJobRequest&, v1::Job*) {
    google::rpc::BadRequest bad;
    bad.add_field_violations()->set_field("training.global_batch_size");
    bad.mutable_field_violations(0)->set_description("want a multiple of 16, got 5");
    bad.add_field_violations()->set_field("training.seq_len");
    bad.mutable_field_violations(1)->set_description("training.seq_len: want at most 4096, got 9999");
    google::rpc::Status rich;
    rich.set_code(grpc::StatusCode::INVALID_ARGUMENT);
    rich.add_details()->PackFrom(bad);
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "2 violations", rich.SerializeAsString());
  };
  const std::string file = write_toml("[training]\nseq_len = 9999\nglobal_batch_size = 5\n");
  const Outcome submit = run({"submit", file});
  EXPECT_EQ(submit.code, kRefused);
  EXPECT_EQ(submit.err, file + ":3: training.global_batch_size: want a multiple of 16, got 5\n" + file +
                            ":2: training.seq_len: want at most 4096, got 9999\n");
}

TEST_F(Cli, SubmitAndWatchEndsWithOneJsonLineAndProgressOnTheOtherStream) {
  server_.create = [&](const v1::CreateJobRequest&, v1::Job* job) {
    *job = succeeded();
    server_.jobs[job->name()] = *job;
    return grpc::Status::OK;
  };
  v1::Checkpoint& checkpoint = server_.checkpoints.emplace_back();
  checkpoint.set_name("tenants/default/jobs/a/checkpoints/step-400");
  checkpoint.set_folder("/root/a/step-400");
  v1::StepReport& report = *server_.metrics.emplace_back().mutable_report();
  report.set_step(100);
  report.set_loss(5.5);
  report.set_seconds(0.2);
  report.set_tokens_per_second(5120);
  v1::Event& event = server_.events.emplace_back();
  event.set_kind("STATE_CHANGED");
  event.set_message("first step done");
  event.set_state(v1::JOB_STATE_RUNNING);

  const Outcome watch =
      run({"submit", write_toml("[model]\nflavor = \"debugmodel\"\n"), "--watch", "--output", "json"});

  EXPECT_EQ(watch.code, kSucceeded) << watch.err;
  EXPECT_EQ(watch.out,
            R"({"job":"tenants/default/jobs/a","state":"SUCCEEDED","steps":400,"first_loss":7.625,"final_loss":4.5,)"
            R"("validation_loss":4.75,"tokens_per_second":3000.0,"checkpoint":"/root/a/step-400",)"
            R"("hf_export":"/root/a/hf"})"
            "\n");
  EXPECT_THAT(watch.err, HasSubstr("step 100/400  loss 5.5000  5120 tokens/s  ETA 1m00s\n"));
  EXPECT_THAT(watch.err, HasSubstr("RUNNING  STATE_CHANGED: first step done\n"));
}

TEST_F(Cli, WhatAJobDoesNotHaveIsNullInItsJsonLine) {
  add(failed(v1::FAILURE_CLASS_USER));
  const Json line = Json::parse(run({"watch", "a", "--output", "json"}).out);
  EXPECT_EQ(line.at("state"), "FAILED");
  for (const char* key :
       {"first_loss", "final_loss", "validation_loss", "tokens_per_second", "checkpoint", "hf_export"}) {
    EXPECT_TRUE(line.at(key).is_null()) << key;
  }
}

TEST_F(Cli, WatchAndWaitExitByTheStateOfTheJob) {
  const std::vector<std::pair<v1::Job, int>> cases = {
      {succeeded(), kSucceeded},
      {failed(v1::FAILURE_CLASS_USER), kJobFailedUser},
      {failed(v1::FAILURE_CLASS_INFRA), kJobFailedInfra},
      {failed(v1::FAILURE_CLASS_INTERNAL), kJobFailedInfra},
      {job_in(v1::JOB_STATE_CANCELLED), kJobCancelled},
  };
  for (const auto& [job, code] : cases) {
    add(job);
    EXPECT_EQ(run({"wait", "a"}).code, code) << job.ShortDebugString();
    EXPECT_EQ(run({"watch", "tenants/default/jobs/a"}).code, code) << job.ShortDebugString();
  }
}

TEST_F(Cli, ErrorsOfTheServerExitByTheirKind) {
  using enum grpc::StatusCode;
  const std::vector<std::pair<grpc::StatusCode, int>> cases = {
      {INVALID_ARGUMENT, kRefused},   {FAILED_PRECONDITION, kRefused},
      {ALREADY_EXISTS, kRefused},     {NOT_FOUND, kNotFound},
      {PERMISSION_DENIED, kDenied},   {UNAUTHENTICATED, kDenied},
      {DEADLINE_EXCEEDED, kDeadline}, {INTERNAL, kUsage},
  };
  for (const auto& [code, exit] : cases) {
    server_.fail_next(1, grpc::Status(code, "so it is"));
    const Outcome cancel = run({"cancel", "a"});
    EXPECT_EQ(cancel.code, exit) << code;
    EXPECT_THAT(cancel.err, EndsWith(": so it is\n"));
  }
}

TEST_F(Cli, AServerThatIsNotThereIsUnavailable) {
  server_.stop();
  const Outcome list = run({"list"});
  EXPECT_EQ(list.code, kUnavailable);
  EXPECT_THAT(list.err, HasSubstr(server_.address()));
}

TEST_F(Cli, WaitGivesUpAtItsTimeout) {
  add(job_in(v1::JOB_STATE_RUNNING));
  server_.hold_streams(true);
  const Outcome wait = run({"wait", "a", "--timeout", "0.1s"});
  EXPECT_EQ(wait.code, kTimeout);
  EXPECT_THAT(wait.err, HasSubstr("not finished"));
}

TEST_F(Cli, UsageErrorsExitWithOneAndSayWhatIsWrong) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{}, "subcommand is required"},         {{"lust"}, "lust"},
      {{"describe"}, "JOB is required"},      {{"submit", "/nonexistent.toml"}, "/nonexistent.toml"},
      {{"list", "--output", "yaml"}, "yaml"}, {{"wait", "a", "--timeout", "soon"}, "soon"},
      {{"local"}, "subcommand is required"},
  };
  for (const auto& [arguments, text] : cases) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, kUsage) << text;
    EXPECT_THAT(outcome.err, HasSubstr(text));
    EXPECT_EQ(outcome.out, "") << text;
  }
}

TEST_F(Cli, EveryCommandHasHelpWithAnExample) {
  for (const char* command : {"submit", "list", "describe", "watch", "logs", "metrics", "events", "checkpoints",
                              "cancel", "trace", "workers", "wait", "version", "tokenize", "local"}) {
    const Outcome help = run({command, "--help"});
    EXPECT_EQ(help.code, kSucceeded) << command;
    EXPECT_THAT(help.out, HasSubstr("Example:\n")) << command;
  }
  for (const char* command : {"up", "down", "status"}) {
    EXPECT_THAT(run({"local", command, "--help"}).out, HasSubstr("Example:\n")) << command;
  }
}

TEST_F(Cli, LogsAreFilteredByRankAndCannotDriveTheTerminal) {
  add(succeeded());
  for (const int rank : {0, 1, 1}) {
    v1::LogRecord& record = server_.logs.emplace_back();
    record.set_attempt(1);
    record.set_rank(rank);
    record.set_line("a\x1b[31m\tb");
  }
  server_.logs.back().set_dropped(17);
  const Outcome logs = run({"logs", "a", "--rank", "1"});
  EXPECT_EQ(logs.code, kSucceeded) << logs.err;
  EXPECT_EQ(logs.out, "[1.1] a\\x1b[31m\tb\n[1.1] (dropped 17 lines)\n[1.1] a\\x1b[31m\tb\n");
}

TEST_F(Cli, MetricsAndEventsAndCheckpointsAndWorkersAreTables) {
  add(succeeded());
  v1::MetricRecord& record = server_.metrics.emplace_back();
  record.set_attempt(1);
  record.mutable_report()->set_step(3);
  record.mutable_report()->set_loss(6.5);
  record.mutable_report()->set_lr(8e-4);
  record.mutable_report()->set_validation_loss(6.75);
  EXPECT_EQ(run({"metrics", "a"}).out,
            "   STEP  ATTEMPT      LOSS  GRAD NORM        LR  TOKENS/S   SECONDS  VALIDATION\n"
            "      3        1    6.5000     0.0000  8.00e-04         0     0.000      6.7500\n");
  record.mutable_report()->set_seconds(0.5);
  *record.mutable_report()->mutable_split() = split();
  EXPECT_EQ(run({"metrics", "a"}).out,
            "   STEP  ATTEMPT      LOSS  GRAD NORM        LR  TOKENS/S   SECONDS  VALIDATION  COMPUTE     WAIT  "
            "OPTIMIZER     DATA    OTHER\n"
            "      3        1    6.5000     0.0000  8.00e-04         0     0.500      6.7500    0.300    0.100      "
            "0.040    0.020    0.040\n");

  v1::Event& event = server_.events.emplace_back();
  event.set_seq(1);
  event.set_kind("STATE_CHANGED");
  event.set_message("accepted");
  event.set_state(v1::JOB_STATE_QUEUED);
  event.mutable_time()->set_seconds(1700000000);
  EXPECT_EQ(run({"events", "a"}).out, "   1  2023-11-14 22:13:20  QUEUED      STATE_CHANGED: accepted\n");
  EXPECT_EQ(Json::parse(run({"events", "a", "-o", "json"}).out).at("seq"), 1);

  v1::Checkpoint& checkpoint = server_.checkpoints.emplace_back();
  checkpoint.set_step(400);
  checkpoint.set_state(v1::CHECKPOINT_STATE_COMMITTED);
  checkpoint.set_size_bytes(1536);
  checkpoint.set_attempt(1);
  checkpoint.set_folder("/root/a/step-400");
  EXPECT_EQ(run({"checkpoints", "a"}).out,
            "STEP  STATE      SIZE     ATTEMPT  COMMITTED  FOLDER\n"
            "400   COMMITTED  1.5 KiB  1        -          /root/a/step-400\n");

  v1::Worker& worker = server_.workers.emplace_back();
  worker.set_name("workers/local-0");
  worker.set_state(v1::WORKER_STATE_READY);
  worker.set_device_kind("cpu");
  worker.add_slots();
  worker.add_slots()->set_job("tenants/default/jobs/a");
  worker.mutable_slots(1)->set_rank(3);
  worker.set_cores(2);
  worker.set_memory_bytes(int64_t{1} << 34);
  worker.set_advertise_address("127.0.0.1");
  worker.set_build_id("0.1.0+abc");
  EXPECT_EQ(run({"workers"}).out,
            "WORKER   STATE  DEVICE  SLOTS  FREE  JOBS  CORES  MEMORY    ADDRESS    BUILD\n"
            "local-0  READY  cpu     2      1     a:3   2      16.0 GiB  127.0.0.1  0.1.0+abc\n");
}

TEST_F(Cli, VersionTellsBothSides) {
  EXPECT_THAT(run({"version"}).out, HasSubstr("server: 9.9.9 (fake)"));
  const Json both = Json::parse(run({"version", "--output", "json"}).out);
  EXPECT_EQ(both.at("server").at("version"), "9.9.9");
}

TEST_F(Cli, TheAddressComesFromTheEnvironmentWhenNoneIsGiven) {
  setenv("QWEN3_ADDRESS", server_.address().c_str(), 1);
  const char* argv[] = {"qwen3ctl", "list"};
  std::istringstream in;
  std::ostringstream out, err;
  EXPECT_EQ(run_cli(2, argv, {in, out, err}), kSucceeded) << err.str();
  unsetenv("QWEN3_ADDRESS");
}

TEST_F(Cli, TokenizeNamesTheLineThatIsNoString) {
  const std::string tokenizer = folder_.file("bytes.tiktoken");
  std::ofstream file(tokenizer);
  for (int byte = 0; byte < 256; ++byte) file << base64_of_byte(byte) << ' ' << byte << '\n';
  file.close();
  const Outcome ids = run({"tokenize", "--tokenizer", tokenizer}, "\"AB\"\n\"\"\n");
  EXPECT_EQ(ids.code, kSucceeded) << ids.err;
  EXPECT_EQ(ids.out, "[65,66]\n[]\n");
  const Outcome text = run({"tokenize", "--decode", "--tokenizer", tokenizer}, "[65,66]\n[]\n");
  EXPECT_EQ(text.out, "\"AB\"\n\"\"\n") << text.err;
  const Outcome bad = run({"tokenize", "--tokenizer", tokenizer}, "\"AB\"\n[1]\n");
  EXPECT_EQ(bad.code, kRefused);
  EXPECT_THAT(bad.err, HasSubstr("line 2 of the input: want a JSON string, got [1]"));
}

}  // namespace
}  // namespace qwen3::client
