// qwen3ctl evaluate against a real service: a finished job's checkpoint, and a running one's newest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "client/local/process.h"
#include "tests/e2e/service_fixture.h"

namespace qwen3::e2e {
namespace {

using Json = nlohmann::json;

std::string read(const std::string& file) {
  std::ifstream input(file);
  return {std::istreambuf_iterator<char>(input), {}};
}

// The JSON that `qwen3ctl -o json evaluate` prints of its operation; fails the test if it does not exit 0.
Json evaluate(const Service& service, std::vector<std::string> arguments) {
  const std::string output = service.dir() + "/evaluate.json";
  std::filesystem::remove(output);
  arguments.insert(arguments.begin(),
                   {QWEN3_BIN_DIR "/qwen3ctl", "--address", service.address(), "-o", "json", "evaluate"});
  const client::local::ProcessId process = client::local::spawn(arguments, output);
  int status = 0;
  waitpid(process.pid, &status, 0);
  const std::string text = read(output);
  EXPECT_EQ(status, 0) << text << service.logs();
  const size_t begin = text.find('{');
  const Json json = begin == std::string::npos ? Json() : Json::parse(text.substr(begin), nullptr, false);
  EXPECT_TRUE(json.is_object()) << text;
  return json.is_object() ? json : Json::object();
}

// A member somewhere in the operation: how its envelope is printed is not this test's matter.
Json find(const Json& json, const std::string& key) {
  if (json.is_object() && json.contains(key)) return json[key];
  for (const Json& member : json) {
    if (!member.is_structured()) continue;
    if (Json found = find(member, key); !found.is_null()) return found;
  }
  return nullptr;
}

TEST(EvaluateService, AFinishedJobsCheckpointSaysWhatItsValidationSaidOnOneRankAndOnTwo) {
  Service service(/*workers=*/2);
  const std::string text = service.dir() + "/held_out.txt";
  { std::ofstream(text) << std::string(300, 'x') + " to be, or not to be: " + std::string(200, 'y'); }
  v1::JobSpec spec = service.small_job(/*slots=*/1, /*steps=*/4);
  spec.mutable_validation()->set_enable(true);
  spec.mutable_validation()->set_dataset_path(text);
  const auto name = service.submit(spec);
  ASSERT_TRUE(name.ok()) << name.status();
  const auto job = service.wait(*name);
  ASSERT_TRUE(job.ok()) << job.status();
  ASSERT_EQ(job->state(), v1::JOB_STATE_SUCCEEDED) << job->DebugString();
  for (const std::string slots : {"1", "2"}) {
    const std::string folder = service.dir() + "/out-" + slots;
    const Json result = evaluate(
        service, {"--model", *name, "--text", text, "--seq-len", "32", "--write", "loss,logits,gradients", "--output",
                  folder, "--set", "resources.slots=" + slots, "--set", "resources.threads_per_rank=1"});
    EXPECT_EQ(std::strtod(find(result, "loss_hex").get<std::string>().c_str(), nullptr),
              job->result().validation_loss())
        << slots << " ranks: " << result.dump();
    EXPECT_TRUE(std::filesystem::exists(folder + "/logits.safetensors"));
    EXPECT_TRUE(std::filesystem::exists(folder + "/gradients.safetensors"));
  }
}

TEST(EvaluateService, ARunningJobsNewestCheckpointIsEvaluatedWhileItTrains) {
  Service service(/*workers=*/2);
  v1::JobSpec spec = service.small_job(/*slots=*/1, /*steps=*/100000);
  const auto name = service.submit(spec);
  ASSERT_TRUE(name.ok()) << name.status();
  ASSERT_TRUE(service.wait_for_step(*name, 9)) << service.logs();
  const std::string text = service.dir() + "/text.txt";
  { std::ofstream(text) << std::string(200, 'x') + " a rose is a rose"; }
  const Json result = evaluate(service, {"--model", *name, "--text", text, "--seq-len", "32"});
  EXPECT_GT(std::strtod(find(result, "loss_hex").get<std::string>().c_str(), nullptr), 0);
  const auto job = service.patient_client()->get_job(*name);
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->state(), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(job->attempt_count(), 1);
}

}  // namespace
}  // namespace qwen3::e2e
