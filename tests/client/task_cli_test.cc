// The commands of tasks (evaluate, convert, verify, parity, operations), against a scripted server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>
#include <vector>

#include "checkpoint/safetensors.h"
#include "client/arguments.h"
#include "client/exit_code.h"
#include "tests/client/fake_server.h"
#include "tests/temporary_folder.h"

namespace qwen3::client {
namespace {

namespace fs = std::filesystem;
using google::longrunning::Operation;
using ::testing::EndsWith;
using testing::FakeServer;
using ::testing::HasSubstr;
using Json = nlohmann::json;

struct Outcome {
  int code;
  std::string out, err;
};

Operation running(int64_t done, int64_t total) {
  v1::TaskMetadata metadata;
  metadata.set_state(v1::JOB_STATE_RUNNING);
  metadata.set_done(done);
  metadata.set_total(total);
  metadata.set_unit("microbatches");
  metadata.mutable_evaluation();
  Operation operation;
  operation.mutable_metadata()->PackFrom(metadata);
  return operation;
}

Operation evaluated(double loss, const std::string& logits = "") {
  v1::EvaluationResult result;
  result.set_loss(loss);
  result.set_perplexity(7.5);
  result.set_tokens(512);
  result.set_logits_file(logits);
  Operation operation = running(8, 8);
  operation.set_done(true);
  operation.mutable_response()->PackFrom(result);
  return operation;
}

Operation failed(absl::StatusCode code, const std::string& message) {
  Operation operation = running(1, 8);
  operation.set_done(true);
  operation.mutable_error()->set_code(static_cast<int>(code));
  operation.mutable_error()->set_message(message);
  return operation;
}

class TaskCli : public ::testing::Test {
 protected:
  Outcome run(std::vector<std::string> arguments, bool terminal = false) {
    arguments.insert(arguments.begin(), {"qwen3ctl", "--address", server_.address()});
    std::vector<const char*> argv;
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    std::istringstream in;
    std::ostringstream out, err;
    const int code = run_cli(static_cast<int>(argv.size()), argv.data(), {in, out, err, terminal});
    return {code, out.str(), err.str()};
  }

  // `rows` positions of two logits each, with the ids they belong to.
  void write_logits(const std::string& path, const std::vector<float>& logits) const {
    const auto rows = static_cast<int64_t>(logits.size()) / 2;
    const std::vector<int64_t> ids(rows, 1);
    const std::vector<checkpoint::TensorBytes> tensors = {
        {"ids", checkpoint::Dtype::kInt64, {1, rows}, std::as_bytes(std::span(ids))},
        {"logits", checkpoint::Dtype::kFloat32, {1, rows, 2}, std::as_bytes(std::span(logits))}};
    fs::create_directories(fs::path(path).parent_path());
    ASSERT_TRUE(checkpoint::write_safetensors(path, tensors).ok());
  }

  const tests::TemporaryFolder temporary_{"task_cli"};
  const std::string& folder_ = temporary_.path();
  FakeServer server_;
};

TEST_F(TaskCli, EvaluateSendsWhatItWasToldAndPrintsTheResult) {
  server_.operation_steps = {running(0, 8), running(4, 8), evaluated(2.0149)};
  const Outcome outcome = run({"evaluate", "--model", "hf:models/x", "--tokens", "/data/t.safetensors", "--write",
                               "loss,logits", "--output", "out", "--set", "parallelism.data_parallel_shard_degree=2"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "loss 2.014900, perplexity 7.5000, 512 tokens\n");
  EXPECT_THAT(outcome.err, HasSubstr("operation op-made accepted"));
  ASSERT_EQ(server_.evaluate_requests.size(), 1u);
  const v1::EvaluateRequest& request = server_.evaluate_requests[0];
  EXPECT_FALSE(request.request_id().empty());
  EXPECT_EQ(request.evaluation().model().hf(), (fs::current_path() / "models/x").string()) << "made absolute here";
  EXPECT_EQ(request.evaluation().output_folder(), (fs::current_path() / "out").string());
  EXPECT_TRUE(request.evaluation().write_logits());
  EXPECT_FALSE(request.evaluation().write_gradients());
  EXPECT_EQ(request.evaluation().parallelism().data_parallel_shard_degree(), 2);
}

TEST_F(TaskCli, AModelIsAFolderOrACheckpoint) {
  server_.operation_steps = {evaluated(1)};
  const auto checkpoint = [&](const std::string& model) {
    const Outcome outcome = run({"evaluate", "--model", model, "--text", "/t"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return server_.evaluate_requests.back().evaluation().model().checkpoint();
  };
  EXPECT_EQ(checkpoint("quick-1"), "tenants/default/jobs/quick-1");
  EXPECT_EQ(checkpoint("quick-1/step-20"), "tenants/default/jobs/quick-1/checkpoints/step-20");
  EXPECT_EQ(checkpoint("quick-1/checkpoints/step-20"), "tenants/default/jobs/quick-1/checkpoints/step-20");
  EXPECT_EQ(checkpoint("tenants/default/jobs/a"), "tenants/default/jobs/a");
  for (const char* bad : {"", "hf:", "s3:x", "a/b", "a/step-1/c"}) {
    const Outcome outcome = run({"evaluate", "--model", bad, "--text", "/t"});
    EXPECT_EQ(outcome.code, kRefused) << bad;
    EXPECT_THAT(outcome.err, HasSubstr("names no model")) << bad;
  }
}

TEST_F(TaskCli, OnATerminalOneLineShowsTheProgress) {
  server_.operation_steps = {running(0, 8), running(4, 8), evaluated(1)};
  const Outcome outcome = run({"evaluate", "--model", "a", "--text", "/t"}, /*terminal=*/true);
  EXPECT_THAT(outcome.err, HasSubstr("[############............] RUNNING  4 of 8 microbatches"));
  EXPECT_THAT(outcome.err, EndsWith("\r\x1b[K")) << "the line is gone at the end";
}

TEST_F(TaskCli, TheExitStatusSaysWhoseFaultItWas) {
  const auto code = [&](absl::StatusCode status) {
    server_.operation_steps = {failed(status, "the rank's sentence")};
    const Outcome outcome = run({"evaluate", "--model", "a", "--text", "/t"});
    EXPECT_THAT(outcome.err, HasSubstr("the rank's sentence"));
    return outcome.code;
  };
  EXPECT_EQ(code(absl::StatusCode::kInvalidArgument), kJobFailedUser);
  EXPECT_EQ(code(absl::StatusCode::kUnavailable), kJobFailedInfra);
  EXPECT_EQ(code(absl::StatusCode::kCancelled), kJobCancelled);
}

TEST_F(TaskCli, JsonIsTheOperationWithItsMessagesUnpacked) {
  server_.operation_steps = {evaluated(2.5)};
  const Outcome outcome = run({"-o", "json", "evaluate", "--model", "a", "--text", "/t"});
  EXPECT_EQ(outcome.code, 0);
  const Json json = Json::parse(outcome.out);
  EXPECT_EQ(json["name"], "tenants/default/operations/op-made");
  EXPECT_EQ(json["metadata"]["state"], "RUNNING");
  EXPECT_EQ(json["response"]["loss"], 2.5);
  EXPECT_EQ(json["response"]["tokens"], 512);
}

TEST_F(TaskCli, DetachNamesTheOperationAndWaitComesBackToIt) {
  server_.operation_steps = {running(0, 8)};
  EXPECT_EQ(run({"evaluate", "--model", "a", "--text", "/t", "--detach"}).out, "tenants/default/operations/op-made\n");
  server_.operation_steps = {running(0, 8), evaluated(2.5)};
  const Outcome outcome = run({"operations", "wait", "op-made"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("loss 2.5"));
}

TEST_F(TaskCli, ConvertAndVerify) {
  v1::ConversionResult result;
  result.set_tensors(3);
  result.set_bytes(2048);
  result.set_weights_digest("d1");
  result.set_folder("/out");
  Operation operation;
  operation.set_done(true);
  operation.mutable_response()->PackFrom(result);
  server_.operation_steps = {operation};
  Outcome outcome = run({"convert", "--from", "native:/n", "--to", "hf:/out", "--dtype", "bfloat16"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "3 tensors, 2.0 KiB, weights digest d1\nwritten: /out\n");
  EXPECT_EQ(server_.convert_requests[0].conversion().hf(), "/out");
  EXPECT_EQ(server_.convert_requests[0].conversion().dtype(), "bfloat16");
  EXPECT_EQ(run({"convert", "--from", "native:/n", "--to", "a"}).code, kRefused) << "a checkpoint is no target";

  result.clear_folder();
  result.add_problems("file rank-0.safetensors has changed");
  operation.mutable_response()->PackFrom(result);
  server_.operation_steps = {operation};
  outcome = run({"verify", "hf:/m"});
  EXPECT_EQ(outcome.code, kJobFailedUser) << "what is broken does not pass";
  EXPECT_THAT(outcome.out, HasSubstr("problem: file rank-0.safetensors has changed"));
  EXPECT_EQ(server_.verify_requests[0].source().hf(), "/m");
}

TEST_F(TaskCli, OperationsAreListedShownAndCancelled) {
  server_.operation_steps = {running(2, 8)};
  EXPECT_THAT(run({"operations", "list"}).out, HasSubstr("op-made    evaluation  RUNNING  25%"));
  EXPECT_THAT(run({"operations", "get", "op-made"}).out, HasSubstr("evaluation op-made: RUNNING, 2 of 8 microbatches"));
  EXPECT_EQ(run({"operations", "get", "op-other"}).code, kNotFound);
  EXPECT_EQ(run({"operations", "cancel", "op-made"}).out, "operation op-made RUNNING\n");
  EXPECT_TRUE(server_.operation_cancelled);
  EXPECT_EQ(run({"operations", "wait", "op-made", "--timeout", "0.01"}).code, kTimeout);
}

TEST_F(TaskCli, ParityComparesWithAStoredReference) {
  const std::string model = folder_ + "/model";
  write_logits(model + "/parity.safetensors", {1, 2, 3, 4});
  std::vector<float> ours = {1, 2, 3, 4};
  server_.on_evaluate = [&](const v1::EvaluateRequest& request) {
    const std::string file = request.evaluation().output_folder() + "/logits.safetensors";
    const auto header = checkpoint::read_safetensors_header(request.evaluation().tokens_file());
    EXPECT_TRUE(header.ok()) << header.status();
    if (header.ok()) {
      EXPECT_TRUE(header->tensors.contains("ids"));
      EXPECT_FALSE(header->tensors.contains("logits")) << "a tokens file holds tokens alone";
    }
    write_logits(file, ours);
    server_.operation_steps = {evaluated(1, file)};
  };
  Outcome outcome = run({"parity", model});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("same argmax: 2 of 2"));
  EXPECT_THAT(outcome.out, EndsWith("PASS\n"));
  EXPECT_EQ(server_.evaluate_requests.size(), 1u) << "the reference was there";

  ours = {1, 2.01f, 3, 4};
  outcome = run({"parity", model});
  EXPECT_EQ(outcome.code, kJobFailedUser);
  EXPECT_THAT(outcome.out, EndsWith("FAIL\n"));
  EXPECT_EQ(run({"parity", model, "--dtype", "bfloat16"}).code, 0) << "looser";
  const Json json = Json::parse(run({"-o", "json", "parity", model, "--max-kl", "0.1"}).out);
  EXPECT_FALSE(json["passed"]);
  EXPECT_NEAR(json["max_difference"].get<double>(), 0.01, 1e-6);
}

TEST_F(TaskCli, ParityWithoutAReferenceEvaluatesInFloat64First) {
  const std::string model = folder_ + "/model";
  fs::create_directories(model);
  std::ofstream(model + "/config.json") << R"({"vocab_size": 2})";
  server_.on_evaluate = [&](const v1::EvaluateRequest& request) {
    const auto header = checkpoint::read_safetensors_header(request.evaluation().tokens_file());
    EXPECT_TRUE(header.ok()) << header.status();
    const std::string file = request.evaluation().output_folder() + "/logits.safetensors";
    write_logits(file, {1, 2, 3, 4});
    server_.operation_steps = {evaluated(1, file)};
  };
  const Outcome outcome = run({"parity", model});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  ASSERT_EQ(server_.evaluate_requests.size(), 2u);
  EXPECT_EQ(server_.evaluate_requests[0].evaluation().dtype(), "float64");
  EXPECT_EQ(server_.evaluate_requests[1].evaluation().dtype(), "float32");
  EXPECT_FALSE(fs::exists(server_.evaluate_requests[0].evaluation().output_folder())) << "nothing is left behind";
}

}  // namespace
}  // namespace qwen3::client
