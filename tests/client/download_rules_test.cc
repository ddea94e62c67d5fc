// What is asked of a Hugging Face endpoint, and what of its answers is believed: no network, no disk.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "absl/strings/match.h"
#include "client/download/content_hash.h"
#include "client/download/fetch.h"
#include "client/download/http.h"
#include "client/download/meter.h"
#include "client/download/repository.h"

namespace qwen3::client::download {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kSha256[] = "00000000000000000000000000000000000000000000000000000000000000aa";
constexpr char kSha1[] = "00000000000000000000000000000000000000bb";

std::string message(const absl::Status& status) { return std::string(status.message()); }

std::vector<std::string> names(const std::vector<RemoteFile>& files) {
  std::vector<std::string> all;
  for (const RemoteFile& file : files) all.push_back(file.name);
  return all;
}

Listing listing_of(const std::vector<std::string>& files) {
  Listing listing;
  for (const std::string& name : files) listing.files.push_back({.name = name, .size = 1});
  return listing;
}

TEST(DownloadUrls, AreThoseOfTheHub) {
  const auto repository = make_repository("https://huggingface.co/", "Qwen/Qwen3-0.6B", "refs/pr/1");
  ASSERT_TRUE(repository.ok()) << repository.status();
  EXPECT_EQ(listing_url(*repository),
            "https://huggingface.co/api/models/Qwen/Qwen3-0.6B/revision/refs%2Fpr%2F1?blobs=true");
  EXPECT_EQ(file_url(*repository, "", "a b.json"),
            "https://huggingface.co/Qwen/Qwen3-0.6B/resolve/refs%2Fpr%2F1/a%20b.json");
  EXPECT_EQ(
      file_url(*repository, kSha1, "model.safetensors"),
      "https://huggingface.co/Qwen/Qwen3-0.6B/resolve/00000000000000000000000000000000000000bb/model.safetensors");
}

TEST(DownloadUrls, WhatIsNoRepositoryRevisionOrEndpointIsRefusedByName) {
  for (const char* id :
       {"", "/", "Qwen/", "/x", "a/b/c", "../x", "Qwen/..", "Qwen/a--b", "Qwen/-x", "Qwen/x?y", "Qwen/a b"}) {
    const auto made = make_repository("https://h", id, "main");
    EXPECT_THAT(message(made.status()), HasSubstr("expected OWNER/NAME")) << id;
  }
  for (const char* revision : {"", "..", "a/../b", "a//b", "a\nb"}) {
    EXPECT_THAT(message(make_repository("https://h", "a/b", revision).status()), HasSubstr("the revision is"))
        << revision;
  }
  for (const char* endpoint :
       {"", "huggingface.co", "ftp://h", "file:///etc", "https://", "https://user:secret@h", "https://h?x"}) {
    EXPECT_THAT(message(make_repository(endpoint, "a/b", "main").status()), HasSubstr("HF_ENDPOINT is")) << endpoint;
  }
}

TEST(DownloadUrls, AnOriginIsSchemeHostAndPort) {
  EXPECT_EQ(origin_of("https://HuggingFace.co/x/y?z"), "https://huggingface.co:443");
  EXPECT_EQ(origin_of("http://h:8080/"), "http://h:8080");
  EXPECT_EQ(origin_of("https://huggingface.co@evil.example/x"), "https://evil.example:443");  // a user name, not a host
  EXPECT_EQ(origin_of("file:///etc/passwd"), "");
}

TEST(DownloadListing, TellsSizesAndTheRightKindOfHash) {
  const auto listing = parse_listing(R"({"sha":"00000000000000000000000000000000000000BB","siblings":[
      {"rfilename":"config.json","size":7,"blobId":"00000000000000000000000000000000000000bb"},
      {"rfilename":"model.safetensors","size":9,"blobId":"00000000000000000000000000000000000000cc",
       "lfs":{"sha256":"00000000000000000000000000000000000000000000000000000000000000aa","size":9,"pointerSize":134}},
      {"rfilename":"onnx/model.onnx"}]})");
  ASSERT_TRUE(listing.ok()) << listing.status();
  EXPECT_EQ(listing->commit, "00000000000000000000000000000000000000BB");
  ASSERT_EQ(listing->files.size(), 3u);
  EXPECT_EQ(listing->files[0].size, 7);
  EXPECT_EQ(listing->files[0].git_sha1, kSha1);
  EXPECT_EQ(listing->files[1].sha256, kSha256);
  EXPECT_EQ(listing->files[1].git_sha1, "");  // that of the pointer says nothing about the content
  EXPECT_FALSE(listing->files[2].size.has_value());
}

TEST(DownloadListing, HostileNamesAreRefused) {
  const std::vector<std::string> hostile = {R"(../x.safetensors)", R"(/etc/passwd)",  R"(a/../../b)", R"(a//b)",
                                            R"(./config.json)",    R"(..)",           R"()",          R"(a\\b)",
                                            R"(c:config.json)",    R"(config\njson)", R"(a\u0000b)",  R"(a/)",
                                            R"(\u001b[2Jx)"};
  for (const std::string& name : hostile) {
    const auto listing = parse_listing(R"({"siblings":[{"rfilename":")" + name + R"("}]})");
    EXPECT_EQ(listing.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(message(listing.status()), HasSubstr("no plain path inside a folder")) << name;
    EXPECT_THAT(message(listing.status()), ::testing::Not(HasSubstr("\n")));
  }
}

TEST(DownloadListing, AnAnswerThatIsNoListingIsShown) {
  for (const char* text : {"", "<html>log in</html>", "[]", "{}", R"({"siblings":{}})", R"({"siblings":[1]})",
                           R"({"siblings":[{"rfilename":1}]})", R"({"siblings":[{"rfilename":"a","size":-1}]})",
                           R"({"siblings":[{"rfilename":"a","size":1e30}]})",
                           R"({"siblings":[{"rfilename":"a","size":18446744073709551615}]})",
                           R"({"siblings":[{"rfilename":"a"},{"rfilename":"a"}]})"}) {
    EXPECT_EQ(parse_listing(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  EXPECT_THAT(message(parse_listing("<html>log in</html>").status()), HasSubstr("<html>log in</html>"));
  const std::string deep(200000, '[');
  EXPECT_FALSE(parse_listing(deep).ok());
}

TEST(DownloadSelection, TakesTheKindsThatWereAskedForAndNeverAPickle) {
  const Listing listing =
      listing_of({".gitattributes", "README.md", "config.json", "generation_config.json", "merges.txt",
                  "model.safetensors", "original/model.safetensors", "pytorch_model.bin", "run.py", "tokenizer.json",
                  "tokenizer_config.json", "training_args.bin", "vocab.json"});
  EXPECT_THAT(names(select(listing, {.tokenizer = true})->files),
              ElementsAre("merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"));
  EXPECT_THAT(names(select(listing, {.config = true})->files), ElementsAre("config.json", "generation_config.json"));
  EXPECT_THAT(names(select(listing, {.weights = true})->files), ElementsAre("model.safetensors"));
  EXPECT_EQ(select(listing, {true, true, true})->files.size(), 7u);
  EXPECT_FALSE(select(listing, {true, true, true})->has_index);
}

TEST(DownloadSelection, WhatAModelNeedsAndTheRepositoryLacksIsNamed) {
  EXPECT_THAT(message(select(listing_of({"x"}), {.tokenizer = true}).status()), HasSubstr("no tokenizer.json"));
  EXPECT_THAT(message(select(listing_of({"x"}), {.config = true}).status()), HasSubstr("no config.json"));
  const auto pickled = select(listing_of({"config.json", "pytorch_model.bin"}), {.weights = true});
  EXPECT_EQ(pickled.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(message(pickled.status()), HasSubstr("pickles, which run code"));
}

TEST(DownloadSelection, ShardsAreThoseThatTheIndexNames) {
  const Listing listing = listing_of({"model.safetensors.index.json", "model-00001-of-00002.safetensors",
                                      "model-00002-of-00002.safetensors", "stray.safetensors"});
  const auto selection = select(listing, {.weights = true});
  ASSERT_TRUE(selection.ok()) << selection.status();
  EXPECT_TRUE(selection->has_index);
  EXPECT_THAT(names(selection->files), ElementsAre("model.safetensors.index.json"));
  const auto shards = select_shards(listing, R"({"metadata":{},"weight_map":{
      "b":"model-00002-of-00002.safetensors","a":"model-00001-of-00002.safetensors",
      "c":"model-00001-of-00002.safetensors"}})");
  ASSERT_TRUE(shards.ok()) << shards.status();
  EXPECT_THAT(names(*shards), ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"));
}

TEST(DownloadSelection, AnIndexIsNotTrusted) {
  const Listing listing = listing_of({"a.safetensors", "folder/b.safetensors", "c.bin"});
  const auto error = [&](const std::string& json) { return message(select_shards(listing, json).status()); };
  EXPECT_THAT(error("no json"), HasSubstr("no \"weight_map\""));
  EXPECT_THAT(error(R"({"weight_map":{}})"), HasSubstr("no \"weight_map\""));
  EXPECT_THAT(error(R"({"weight_map":{"t":7}})"), HasSubstr("\"t\" maps to 7"));
  EXPECT_THAT(error(R"({"weight_map":{"t":"../../a.safetensors"}})"), HasSubstr("no plain path"));
  EXPECT_THAT(error(R"({"weight_map":{"t":"/a.safetensors"}})"), HasSubstr("no plain path"));
  EXPECT_THAT(error(R"({"weight_map":{"t":"folder/b.safetensors"}})"), HasSubstr("no plain path"));
  EXPECT_THAT(error(R"({"weight_map":{"t":"c.bin"}})"), HasSubstr(".safetensors files only"));
  EXPECT_THAT(error(R"({"weight_map":{"t":"a.safetensors","u":"z.safetensors"}})"),
              HasSubstr("1 of 2 files that the repository does not have: z.safetensors"));
}

TEST(DownloadAssets, AreNamedWords) {
  const auto some = parse_assets({"tokenizer", "config"});
  ASSERT_TRUE(some.ok());
  EXPECT_TRUE(some->tokenizer && some->config && !some->weights);
  EXPECT_THAT(message(parse_assets({"wieghts"}).status()), HasSubstr("\"wieghts\", expected some of"));
}

TEST(DownloadHash, IsWhatGitAndShaSay) {
  ContentHash sha256(HashKind::kSha256, 3);
  sha256.update("ab");
  sha256.update("c");
  EXPECT_EQ(sha256.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-2
  ContentHash blob(HashKind::kGitSha1, 12);
  blob.update("hello world\n");
  EXPECT_EQ(blob.hex(), "3b18e512dba79e4c8300dd08aeb37f8e728b8dad");  // git hash-object
}

TEST(DownloadRetry, WaitsTwiceAsLongEachTimeUpToALimit) {
  EXPECT_EQ(backoff(1), absl::Milliseconds(500));
  EXPECT_EQ(backoff(2), absl::Seconds(1));
  EXPECT_EQ(backoff(5), absl::Seconds(8));
  EXPECT_EQ(backoff(1000), absl::Seconds(15));
}

TEST(DownloadMeter, SaysHowMuchHowFastAndHowLongStill) {
  std::ostringstream out;
  absl::Time now = absl::UnixEpoch();
  Meter meter(out, /*terminal=*/false, [&now] { return now; });
  meter.start("model.safetensors", 0, 40 << 20);
  now += absl::Seconds(5);
  meter.advance(5 << 20);
  EXPECT_THAT(out.str(), IsEmpty());  // away from a terminal a line every ten seconds is enough
  now += absl::Seconds(5);
  meter.advance(10 << 20);
  EXPECT_EQ(out.str(), "model.safetensors  10.0 MiB of 40.0 MiB  1.0 MiB/s  ETA 30s\n");
}

TEST(DownloadMeter, OnATerminalDrawsOneLineOverAndOver) {
  std::ostringstream out;
  absl::Time now = absl::UnixEpoch();
  Meter meter(out, /*terminal=*/true, [&now] { return now; });
  meter.start("a", 0, 100);
  meter.note("a note");
  meter.start("b", 50, 100);
  meter.finish();
  EXPECT_EQ(out.str(), "a  0 B of 100 B\r\x1b[Ka note\nb  50 B of 100 B\r\x1b[K");
}

}  // namespace
}  // namespace qwen3::client::download
