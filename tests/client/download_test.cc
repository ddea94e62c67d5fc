// `qwen3ctl download` against an endpoint in this process that breaks in every way it knows.
// Long because every way in which a transfer fails is a scene of its own.
#include "client/download/download.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "client/arguments.h"
#include "client/exit_code.h"
#include "tests/client/fake_hub.h"
#include "tests/temporary_folder.h"

namespace qwen3::client::download {
namespace {

namespace fs = std::filesystem;
using client::testing::FakeHub;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

std::string message(const absl::Status& status) { return std::string(status.message()); }

std::string random_bytes(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class Download : public ::testing::Test {
 protected:
  Download() {
    hub_.files["config.json"].content = "{\"hidden_size\": 64}";
    hub_.files["tokenizer.json"].content = "{\"model\": {}}";
    hub_.files["model.safetensors"] = {.content = weights_, .large = true};
  }

  absl::StatusOr<Downloaded> run(Assets assets = {true, true, true}, const std::string& token = "",
                                 absl::Duration stall_limit = absl::Seconds(30)) {
    const auto repository = make_repository(hub_.url(), "Qwen/Qwen3-0.6B", "main");
    if (!repository.ok()) return repository.status();
    Http http({.endpoint = hub_.url(), .token = token, .stall_limit = stall_limit});
    Meter meter(notes_, /*terminal=*/false, [] { return absl::UnixEpoch(); });
    return download(http, {*repository, assets, folder_.string()}, meter,
                    [this](absl::Duration pause) { pauses_.push_back(pause); });
  }
  absl::StatusOr<Downloaded> weights() { return run({.weights = true}); }

  std::vector<std::string> files_there() const {
    std::vector<std::string> names;
    if (!fs::exists(folder_)) return names;
    for (const auto& entry : fs::directory_iterator(folder_)) names.push_back(entry.path().filename().string());
    return names;
  }

  // Leaves the first `bytes` of the weights behind, as an interrupted download does.
  void interrupt_after(int64_t bytes) {
    auto& faults = hub_.faults["model.safetensors"];
    faults = {{.cut_after = bytes}, {.status = 404}};
    EXPECT_FALSE(weights().ok());
    EXPECT_EQ(fs::file_size(folder_ / "model.safetensors.part"), static_cast<uintmax_t>(bytes));
    faults.clear();
  }

  const std::string weights_ = random_bytes(300001, 1);
  FakeHub hub_;
  const qwen3::tests::TemporaryFolder parent_{"download"};
  const fs::path folder_ = parent_.file("model");
  std::ostringstream notes_;
  std::vector<absl::Duration> pauses_;
};

TEST_F(Download, BringsEveryFileWholeAndSaysHowItWasChecked) {
  hub_.files["pytorch_model.bin"].content = "a pickle";
  const auto result = run();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(files_there(), UnorderedElementsAre("config.json", "tokenizer.json", "model.safetensors"));
  EXPECT_EQ(read_file(folder_ / "model.safetensors"), weights_);
  EXPECT_EQ(read_file(folder_ / "config.json"), hub_.files["config.json"].content);
  EXPECT_EQ(result->commit, hub_.commit);
  ASSERT_EQ(result->files.size(), 3u);
  EXPECT_EQ(result->files[0].checked, HashKind::kGitSha1);
  EXPECT_EQ(result->files[2].checked, HashKind::kSha256);
  EXPECT_EQ(result->files[2].received, 300001);
}

TEST_F(Download, AllFilesAreOfTheCommitThatTheListingNamed) {
  ASSERT_TRUE(run().ok());
  for (const auto& request : hub_.requests()) {
    EXPECT_THAT(request.path, ::testing::AnyOf(HasSubstr("/api/models/"), HasSubstr("/resolve/" + hub_.commit + "/")));
  }
}

TEST_F(Download, TwoShardsComeWithTheirIndex) {
  hub_.files.erase("model.safetensors");
  hub_.files["model.safetensors.index.json"].content =
      R"({"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}})";
  hub_.files["model-00001-of-00002.safetensors"] = {.content = random_bytes(200000, 2), .large = true};
  hub_.files["model-00002-of-00002.safetensors"] = {.content = random_bytes(100000, 3), .large = true};
  hub_.files["consolidated.safetensors"] = {.content = "twice the same weights", .large = true};
  const auto result = run();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(files_there(),
              UnorderedElementsAre("config.json", "tokenizer.json", "model.safetensors.index.json",
                                   "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"));
  for (const auto& [name, file] : hub_.files) {
    if (name == "consolidated.safetensors") continue;
    EXPECT_EQ(read_file(folder_ / name), file.content) << name;
  }
}

TEST_F(Download, WhatIsThereIsNotAskedForAgain) {
  ASSERT_TRUE(run().ok());
  const size_t before = hub_.requests().size();
  const auto again = run();
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(hub_.requests().size(), before + 1);  // the listing
  for (const DownloadedFile& file : again->files) EXPECT_EQ(file.received, 0) << file.name;
}

TEST_F(Download, AFileOfTheSameSizeButOtherContentIsReplaced) {
  ASSERT_TRUE(run().ok());
  std::string damaged = weights_;
  damaged[1000] ^= 1;
  std::ofstream(folder_ / "model.safetensors", std::ios::binary) << damaged;
  ASSERT_TRUE(run().ok());
  EXPECT_EQ(read_file(folder_ / "model.safetensors"), weights_);
}

TEST_F(Download, GoesOnAfterCutsAtRandomBytesAndReceivesNoByteTwice) {
  std::mt19937 random(7);
  for (int round = 0; round < 10; ++round) {
    fs::remove_all(folder_);
    pauses_.clear();
    std::vector<FakeHub::Fault> cuts;
    for (int i = 0; i < 3; ++i) cuts.push_back({.cut_after = static_cast<int64_t>(random() % 90000)});
    hub_.faults["model.safetensors"] = cuts;
    const auto result = weights();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(read_file(folder_ / "model.safetensors"), weights_);
    EXPECT_EQ(result->files[0].received, 300001);
    EXPECT_THAT(pauses_, SizeIs(3));
    EXPECT_THAT(files_there(), ElementsAre("model.safetensors"));
  }
}

TEST_F(Download, AsLongAsBytesComeItIsNotGivenUp) {
  hub_.faults["model.safetensors"] = std::vector<FakeHub::Fault>(3 * kTries, {.cut_after = 1000});
  ASSERT_TRUE(weights().ok());
  EXPECT_EQ(read_file(folder_ / "model.safetensors"), weights_);
  for (const absl::Duration pause : pauses_) EXPECT_EQ(pause, backoff(1));
}

TEST_F(Download, AnotherProcessGoesOnWhereTheFirstWasCut) {
  interrupt_after(123456);
  const auto result = weights();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(read_file(folder_ / "model.safetensors"), weights_);
  EXPECT_EQ(result->files[0].received, 300001 - 123456);
  const auto last = hub_.requests_for("model.safetensors").back();
  EXPECT_EQ(last.header("range"), "bytes=123456-");
  EXPECT_EQ(last.header("if-range"), "\"content-1\"");
}

TEST_F(Download, AChangedEntityTagStartsOver) {
  interrupt_after(123456);
  hub_.files["model.safetensors"].etag = "\"content-2\"";  // If-Range does not hold: the server sends all of it
  const auto result = weights();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->files[0].received, 300001);
  EXPECT_EQ(read_file(folder_ / "model.safetensors"), weights_);
}

TEST_F(Download, APartOfAnotherEntityTagIsNotJoinedToWhatIsThere) {
  interrupt_after(123456);
  hub_.files["model.safetensors"].etag = "\"content-2\"";
  hub_.files["model.safetensors"].ignores_conditions = true;
  const auto result = weights();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(notes_.str(), HasSubstr("the file has changed on the server"));
  EXPECT_EQ(result->files[0].received, 300001);
}

TEST_F(Download, ChangedContentStartsOver) {
  interrupt_after(123456);
  const std::string other = random_bytes(300001, 9);
  hub_.files["model.safetensors"].content = other;  // and with it the hash in the listing; the entity tag stays
  const auto result = weights();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(read_file(folder_ / "model.safetensors"), other);
  EXPECT_EQ(hub_.requests_for("model.safetensors").back().header("range"), "");
}

TEST_F(Download, APartThatWasDamagedOnDiskIsFoundByItsHashAndFetchedAnew) {
  interrupt_after(123456);
  std::string part = read_file(folder_ / "model.safetensors.part");
  part[5] ^= 1;
  std::ofstream(folder_ / "model.safetensors.part", std::ios::binary) << part;
  const auto result = weights();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(read_file(folder_ / "model.safetensors"), weights_);
  EXPECT_THAT(notes_.str(), HasSubstr("starts over"));
}

TEST_F(Download, APartWithoutItsRecordOrLongerThanTheFileIsDropped) {
  interrupt_after(123456);
  fs::remove(folder_ / "model.safetensors.part.json");
  ASSERT_TRUE(weights().ok());
  EXPECT_EQ(read_file(folder_ / "model.safetensors"), weights_);

  fs::remove(folder_ / "model.safetensors");
  interrupt_after(123456);
  std::ofstream(folder_ / "model.safetensors.part", std::ios::binary) << std::string(400000, 'x');
  ASSERT_TRUE(weights().ok());
  EXPECT_EQ(read_file(folder_ / "model.safetensors"), weights_);
}

TEST_F(Download, AServerThatKnowsNoRangesSendsAllOfIt) {
  interrupt_after(123456);
  hub_.files["model.safetensors"].ignores_ranges = true;
  const auto result = weights();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->files[0].received, 300001);
  EXPECT_EQ(read_file(folder_ / "model.safetensors"), weights_);
}

TEST_F(Download, AWrongHashIsAnErrorThatNamesBothAndLeavesNothing) {
  for (const char* name : {"model.safetensors", "config.json"}) {
    fs::remove_all(folder_);
    const bool large = hub_.files[name].large;
    hub_.files[name].told_hash = std::string(large ? 64 : 40, 'a');
    const auto result = run({.config = !large, .weights = large});
    EXPECT_EQ(result.status().code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(message(result.status()), HasSubstr(name));
    EXPECT_THAT(message(result.status()), HasSubstr("expected aaaa"));
    EXPECT_THAT(message(result.status()),
                HasSubstr(large ? client::testing::sha256_hex(weights_)
                                : client::testing::git_blob_sha1_hex(hub_.files[name].content)));
    EXPECT_THAT(files_there(), IsEmpty());
  }
}

TEST_F(Download, AWrongSizeIsAnErrorThatNamesBoth) {
  hub_.files["config.json"].told_size = 5;
  const auto result = run({.config = true});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(message(result.status()), HasSubstr("config.json has 5 bytes in the listing, but"));
  EXPECT_THAT(message(result.status()), HasSubstr("has 19"));
  EXPECT_THAT(files_there(), IsEmpty());
}

TEST_F(Download, MoreThanTheDiskHoldsIsRefusedBeforeTheFirstByte) {
  hub_.files["model.safetensors"].told_size = int64_t{1} << 60;
  const auto result = weights();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(message(result.status()), HasSubstr("the files need 1024.0 PiB, but"));
  EXPECT_THAT(message(result.status()), HasSubstr("are missing"));
  EXPECT_THAT(hub_.requests_for("model.safetensors"), IsEmpty());
}

TEST_F(Download, TheTokenGoesToTheEndpointAndNotToWhereItRedirects) {
  FakeHub storage;
  storage.files = hub_.files;
  hub_.storage = storage.url();
  hub_.token = "hf_secret";
  const auto result = run({true, true, true}, "hf_secret");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(read_file(folder_ / "model.safetensors"), weights_);
  for (const auto& request : hub_.requests()) EXPECT_EQ(request.header("authorization"), "Bearer hf_secret");
  ASSERT_THAT(storage.requests(), SizeIs(1));
  EXPECT_EQ(storage.requests()[0].header("authorization"), "");
}

TEST_F(Download, ARedirectedFileIsResumedWithTheEntityTagOfTheServerThatSendsIt) {
  FakeHub storage;
  storage.files = hub_.files;
  storage.files["model.safetensors"].etag = "\"storage-tag\"";
  storage.faults["model.safetensors"] = {{.cut_after = 1000}};
  hub_.storage = storage.url();
  ASSERT_TRUE(weights().ok());
  ASSERT_THAT(storage.requests(), SizeIs(2));
  EXPECT_EQ(storage.requests()[1].header("if-range"), "\"storage-tag\"");
  EXPECT_EQ(read_file(folder_ / "model.safetensors"), weights_);
}

TEST_F(Download, WithoutHashesInTheListingThoseOfTheHeadersAreChecked) {
  hub_.tells_hashes = false;
  hub_.files["config.json"].etag = absl::StrCat("\"", client::testing::git_blob_sha1_hex("something else"), "\"");
  const auto wrong = run({.config = true});
  EXPECT_EQ(wrong.status().code(), absl::StatusCode::kDataLoss);

  hub_.files["config.json"].etag = "\"no hash\"";
  const auto unchecked = run({.config = true});
  ASSERT_TRUE(unchecked.ok()) << unchecked.status();
  EXPECT_EQ(unchecked->files[0].checked, HashKind::kNone);
  EXPECT_THAT(notes_.str(), HasSubstr("config.json: the server tells no hash; only its size was checked"));
}

TEST_F(Download, WithNeitherHashNorEntityTagACutStartsOver) {
  hub_.tells_hashes = false;
  hub_.files["config.json"].etag = "";
  hub_.faults["config.json"] = {{.cut_after = 7}};
  ASSERT_TRUE(run({.config = true}).ok());
  EXPECT_EQ(hub_.requests_for("config.json").back().header("range"), "");
  EXPECT_EQ(read_file(folder_ / "config.json"), hub_.files["config.json"].content);
}

TEST_F(Download, ServerErrorsAreTriedAgainWithGrowingPauses) {
  hub_.faults[""] = {{.status = 500}, {.status = 503}};
  hub_.faults["config.json"] = {{.status = 502}, {.status = 429, .retry_after = 7}};
  const auto result = run({.config = true});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(pauses_,
              ElementsAre(absl::Milliseconds(500), absl::Seconds(1), absl::Milliseconds(500), absl::Seconds(7)));
  EXPECT_THAT(notes_.str(), HasSubstr("HTTP 502 (try later); trying again in 500ms"));
}

TEST_F(Download, AServerThatStaysBrokenIsGivenUp) {
  hub_.faults["config.json"] = std::vector<FakeHub::Fault>(20, {.status = 500});
  const auto result = run({.config = true});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(message(result.status()), HasSubstr("/config.json: HTTP 500"));
  EXPECT_THAT(hub_.requests_for("config.json"), SizeIs(kTries));
  EXPECT_THAT(files_there(), IsEmpty());
}

TEST_F(Download, AStalledServerIsLeftAndTriedAgain) {
  hub_.faults["config.json"] = {{.stall = true}};
  const auto result = run({.config = true}, "", /*stall_limit=*/absl::Seconds(1));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(pauses_, SizeIs(1));
}

TEST_F(Download, RefusalsSayWhatToDo) {
  hub_.token = "hf_secret";
  const auto anonymous = run();
  EXPECT_EQ(anonymous.status().code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(message(anonymous.status()),
              ::testing::AllOf(HasSubstr(hub_.url() + "/api/models/Qwen/Qwen3-0.6B/revision/main"),
                               HasSubstr("HTTP 401"), HasSubstr("set HF_TOKEN")));
  const auto other = run({true, true, true}, "hf_wrong");
  EXPECT_EQ(other.status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(message(other.status()),
              ::testing::AllOf(HasSubstr("HF_TOKEN may not read it"), Not(HasSubstr("hf_wrong"))));
  hub_.token = "";
  hub_.repository = "Qwen/another";
  const auto nowhere = run();
  EXPECT_EQ(nowhere.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(message(nowhere.status()), HasSubstr("no such repository, revision or file"));
  EXPECT_THAT(pauses_, IsEmpty());  // none of them gets better by trying
  EXPECT_THAT(files_there(), IsEmpty());
}

TEST_F(Download, AHostileListingWritesNothingAnywhere) {
  hub_.listing = R"({"siblings":[{"rfilename":"config.json"},{"rfilename":"../escaped.safetensors"}]})";
  const auto result = run();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(message(result.status()), HasSubstr("\"../escaped.safetensors\""));
  EXPECT_THAT(files_there(), IsEmpty());
}

TEST_F(Download, SymbolicLinksInTheFolderAreNotFollowed) {
  const fs::path victim = folder_.string() + ".victim";
  fs::create_directories(folder_);
  std::ofstream(victim) << "precious";
  fs::create_symlink(victim, folder_ / "config.json.part");
  const auto refused = run({.config = true});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(message(refused.status()), HasSubstr("config.json.part is a symbolic link"));

  fs::remove(folder_ / "config.json.part");
  fs::create_symlink(victim, folder_ / "config.json");  // is replaced, not written through
  fs::create_symlink(victim, folder_ / "config.json.part.json");
  ASSERT_TRUE(run({.config = true}).ok());
  EXPECT_FALSE(fs::is_symlink(folder_ / "config.json"));
  EXPECT_EQ(read_file(victim), "precious");
  fs::remove(victim);
}

TEST_F(Download, TwoProcessesDoNotWriteTheSameFile) {
  const RemoteFile file{.name = "config.json", .size = 19};
  fs::create_directories(folder_);
  const auto first = PartFile::open(folder_.string(), file);
  ASSERT_TRUE(first.ok());
  const auto second = PartFile::open(folder_.string(), file);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(message(second.status()), HasSubstr("is being written by another process"));
}

TEST_F(Download, AStoppedTransferLeavesWhatCameForTheNextTime) {
  hub_.faults["model.safetensors"] = {{.cut_after = 5000}, {.stall = true}};
  std::stop_source stop;
  const auto repository = make_repository(hub_.url(), "Qwen/Qwen3-0.6B", "main");
  Http http({.endpoint = hub_.url(), .stop = stop.get_token()});
  Meter meter(notes_, false, [] { return absl::UnixEpoch(); });
  const auto result = download(http, {*repository, {.weights = true}, folder_.string()}, meter,
                               [&stop](absl::Duration) { stop.request_stop(); });
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(fs::file_size(folder_ / "model.safetensors.part"), 5000u);
}

// The command itself.
class DownloadCommand : public Download {
 protected:
  int run_command(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"qwen3ctl", "download"});
    std::vector<const char*> argv;
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    setenv("HF_ENDPOINT", hub_.url().c_str(), 1);
    setenv("HF_TOKEN", "hf_secret\n", 1);
    std::istringstream in;
    const int code = run_cli(static_cast<int>(argv.size()), argv.data(), {in, out_, err_});
    unsetenv("HF_ENDPOINT");
    unsetenv("HF_TOKEN");
    return code;
  }
  std::ostringstream out_, err_;
};

TEST_F(DownloadCommand, PrintsOneJsonObject) {
  hub_.token = "hf_secret";
  ASSERT_EQ(
      run_command({"Qwen/Qwen3-0.6B", "--assets", "tokenizer,config", "--to", folder_.string(), "--output", "json"}),
      kSucceeded)
      << err_.str();
  const auto result = nlohmann::json::parse(out_.str());
  EXPECT_EQ(result.at("repository"), "Qwen/Qwen3-0.6B");
  EXPECT_EQ(result.at("commit"), hub_.commit);
  EXPECT_EQ(result.at("folder"), folder_.string());
  EXPECT_EQ(result.at("bytes"), 32);
  EXPECT_EQ(result.at("files").at(0).at("name"), "config.json");
  EXPECT_EQ(result.at("files").at(0).at("checked"), "git blob sha1");
  EXPECT_THAT(files_there(), UnorderedElementsAre("config.json", "tokenizer.json"));
}

TEST_F(DownloadCommand, PutsAModelWhereTorchtitansPathsExpectIt) {
  setenv("QWEN3_DATA", folder_.c_str(), 1);
  ASSERT_EQ(run_command({"Qwen/Qwen3-0.6B", "--assets", "config"}), kSucceeded) << err_.str();
  unsetenv("QWEN3_DATA");
  EXPECT_TRUE(fs::exists(folder_ / "assets/hf/Qwen3-0.6B/config.json"));
  EXPECT_THAT(out_.str(),
              HasSubstr("Qwen/Qwen3-0.6B at 0123456789ab: 1 files, 19 B (19 B received) in " + folder_.string()));
}

TEST_F(DownloadCommand, MistakesHaveTheExitStatusOfTheirKind) {
  EXPECT_EQ(run_command({}), kUsage);
  EXPECT_EQ(run_command({"a/b/c"}), kRefused);
  EXPECT_EQ(run_command({"Qwen/Qwen3-0.6B", "--assets", "pickles"}), kRefused);
  EXPECT_EQ(run_command({"Qwen/nothing", "--to", folder_.string()}), kNotFound);
  hub_.token = "hf_other";
  EXPECT_EQ(run_command({"Qwen/Qwen3-0.6B", "--to", folder_.string()}), kDenied);
  EXPECT_THAT(err_.str(), Not(HasSubstr("hf_secret")));
}

}  // namespace
}  // namespace qwen3::client::download
