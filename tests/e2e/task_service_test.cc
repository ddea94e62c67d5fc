// Evaluation and conversion by real processes, and what a kill -9 of each kind costs them: time, never the operation.
// The models are the goldens of tests/golden/hf, so that a parity check through the service has an oracle.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <span>
#include <sstream>
#include <vector>

#include "checkpoint/safetensors.h"
#include "client/arguments.h"
#include "tests/e2e/service_fixture.h"

namespace qwen3::e2e {
namespace {

namespace fs = std::filesystem;
using google::longrunning::Operation;

constexpr int64_t kSequences = 64, kLength = 64;

class TaskService : public ::testing::Test {
 protected:
  static std::string golden(const std::string& name) {
    return std::string(QWEN3_SOURCE_DIR) + "/tests/golden/hf/" + name;
  }

  // Until it is done, at most two minutes.
  static Operation wait(client::Client& client, const std::string& name) {
    Operation operation;
    for (int minute = 0; minute < 2 && !operation.done(); ++minute) {
      auto answer = client.wait_operation(name, absl::Minutes(1));
      EXPECT_TRUE(answer.ok()) << answer.status();
      if (!answer.ok()) break;
      operation = *std::move(answer);
    }
    EXPECT_TRUE(operation.done()) << operation.ShortDebugString();
    return operation;
  }

  static int run_cli(const Service& service, std::vector<std::string> arguments, std::string* out) {
    arguments.insert(arguments.begin(), {"qwen3ctl", "--address", service.address()});
    std::vector<const char*> argv;
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    std::istringstream in;
    std::ostringstream result, err;
    const int code = client::run_cli(static_cast<int>(argv.size()), argv.data(), {in, result, err});
    *out = result.str() + err.str();
    return code;
  }

  // An evaluation that is disturbed once while its rank lives, and its end.
  static Operation evaluate(Service& service, const std::function<void()>& disturb) {
    const std::string tokens = service.dir() + "/tokens.safetensors";
    std::vector<int64_t> ids(kSequences * kLength);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i * 7 % 89);
    const checkpoint::TensorBytes tensor{
        "ids", checkpoint::Dtype::kInt64, {kSequences, kLength}, std::as_bytes(std::span(ids))};
    EXPECT_TRUE(checkpoint::write_safetensors(tokens, std::span(&tensor, 1)).ok());
    const auto client = service.patient_client();
    v1::EvaluateRequest request;
    request.mutable_evaluation()->mutable_model()->set_hf(golden("dense_tied/model"));
    request.mutable_evaluation()->set_tokens_file(tokens);
    const auto operation = client->evaluate(request);
    EXPECT_TRUE(operation.ok()) << operation.status();
    if (!operation.ok()) return {};
    if (disturb) disturb();
    return wait(*client, operation->name());
  }

  static v1::EvaluationResult result_of(const Operation& operation, const Service& service) {
    v1::EvaluationResult result;
    EXPECT_TRUE(operation.response().UnpackTo(&result)) << operation.ShortDebugString() << service.logs();
    return result;
  }
};

TEST_F(TaskService, AKilledRankOrCoordinatorChangesNothingOfAResult) {
  Service service(/*workers=*/1);
  const auto undisturbed = result_of(evaluate(service, nullptr), service);
  EXPECT_EQ(undisturbed.tokens(), kSequences * (kLength - 1));

  const Operation of_rank = evaluate(service, [&] { service.kill_rank(0); });
  EXPECT_EQ(result_of(of_rank, service).loss_hex(), undisturbed.loss_hex());
  v1::TaskMetadata metadata;
  ASSERT_TRUE(of_rank.metadata().UnpackTo(&metadata));
  EXPECT_EQ(metadata.attempt_count(), 2);

  const Operation of_coordinator = evaluate(service, [&] {
    service.kill_coordinator();
    service.start_coordinator();
  });
  EXPECT_EQ(result_of(of_coordinator, service).loss_hex(), undisturbed.loss_hex());
}

TEST_F(TaskService, ParityWithTheStoredLogitsOfTransformers) {
  Service service(/*workers=*/1);
  std::string out;
  EXPECT_EQ(
      run_cli(service,
              {"parity", golden("dense_tied/model"), "--reference", golden("dense_tied/transformers.safetensors")},
              &out),
      0)
      << out << service.logs();
  EXPECT_THAT(out, ::testing::HasSubstr("PASS"));
}

TEST_F(TaskService, AConversionThereAndBackKeepsTheWeightsWhileTheSlotIsTaken) {
  Service service(/*workers=*/1);
  ASSERT_TRUE(service.submit(service.small_job(/*slots=*/1, /*steps=*/100000)).ok());  // holds the only slot
  std::string out;
  const std::string native = "native:" + service.dir() + "/native", hf = "hf:" + service.dir() + "/hf";
  EXPECT_EQ(run_cli(service, {"convert", "--from", "hf:" + golden("dense_tied/model"), "--to", native}, &out), 0)
      << out << service.logs();
  EXPECT_EQ(run_cli(service, {"convert", "--from", native, "--to", hf}, &out), 0) << out << service.logs();
  EXPECT_EQ(run_cli(service, {"verify", hf}, &out), 0) << out << service.logs();
  EXPECT_THAT(out, ::testing::HasSubstr("all is well"));

  std::ofstream(service.dir() + "/hf/model.safetensors", std::ios::trunc) << "broken";
  EXPECT_NE(run_cli(service, {"verify", hf}, &out), 0);
  EXPECT_THAT(out, ::testing::HasSubstr("model.safetensors"));
}

}  // namespace
}  // namespace qwen3::e2e
