// Commit, scan and sweep on disks that are full, hang by a thread or answer with errors.
#include "coordinator/checkpoint_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/safetensors.h"
#include "tests/full_disk.h"
#include "tests/temporary_folder.h"

namespace {
std::vector<std::string> synced;  // files and folders, in order
}  // namespace

// In the place of libc's, to see what is made durable, and when.
extern "C" int fsync(int fd) {
  synced.push_back(std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd)).string());
  return static_cast<int>(syscall(SYS_fsync, fd));
}

namespace qwen3::coordinator {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

class CheckpointFilesTest : public ::testing::Test {
 protected:
  // The prepared part of a checkpoint of one rank.
  CheckpointParts prepare(int64_t step) const {
    CheckpointParts parts{.folder = job_ + "/step-" + std::to_string(step) + ".attempt-1"};
    fs::create_directories(parts.folder);
    const float value = 1;
    const auto bytes = std::as_bytes(std::span(&value, 1));
    const checkpoint::TensorBytes tensor{"model.w", checkpoint::Dtype::kFloat32, {1}, bytes};
    const auto written = checkpoint::write_safetensors(parts.folder + "/rank-0.safetensors", std::span(&tensor, 1));
    EXPECT_TRUE(written.ok()) << written.status();
    checkpoint::Manifest part;
    part.run.step = step;
    part.mesh = {1, 1, 1, 1, 1, 1};
    checkpoint::TensorRecord& record = part.tensors["model.w"];
    record.shape = {1};
    record.slices = {{.file = "rank-0.safetensors", .key = "model.w", .box = {.begin = {0}, .shape = {1}}}};
    record.digest = checkpoint::digest_slice(bytes, 4, 0);
    part.files["rank-0.safetensors"] = *written;
    parts.parts.emplace_back().set_manifest_part(checkpoint::to_json(part));
    return parts;
  }
  void commit(int64_t step) const {
    const auto committed = commit_checkpoint(prepare(step), root_);
    EXPECT_TRUE(committed.ok()) << committed.status();
  }
  std::vector<int64_t> committed_steps() const {
    std::vector<int64_t> steps;
    for (const v1::Checkpoint& checkpoint : scan_committed("j", job_)) steps.push_back(checkpoint.step());
    return steps;
  }

  const qwen3::tests::TemporaryFolder folder_{"root"};
  const std::string root_ = fs::canonical(folder_.path()).string();
  const std::string job_ = root_ + "/team/job";
};

TEST_F(CheckpointFilesTest, ACommittedFolderIsDurableUnderItsName) {
  const CheckpointParts parts = prepare(1);
  synced.clear();
  ASSERT_TRUE(commit_checkpoint(parts, root_).ok());
  const auto first = [](const std::string& path) { return std::find(synced.begin(), synced.end(), path); };
  const auto manifest = std::find_if(synced.begin(), synced.end(),
                                     [](const std::string& path) { return path.find("manifest") != path.npos; });
  ASSERT_NE(manifest, synced.end());
  for (const std::string& parent : {job_, root_ + "/team", root_}) {
    EXPECT_LT(first(parent), manifest) << parent << " was not synced before the manifest";
  }
}

// A link to itself stands for an entry that the disk has and cannot show (ELOOP instead of EIO).
TEST_F(CheckpointFilesTest, WhatCannotBeLookedAtIsPassedOverAndNeverDeleted) {
  commit(1);
  fs::create_symlink("step-2.attempt-1", job_ + "/step-2.attempt-1");
  prepare(3);
  fs::create_symlink("manifest.json", job_ + "/step-3.attempt-1/manifest.json");
  prepare(4);

  EXPECT_THAT(committed_steps(), ElementsAre(1));
  EXPECT_THAT(sweep_torn(job_, [](int32_t) { return true; }), ElementsAre("step-4.attempt-1"));
  EXPECT_TRUE(fs::exists(job_ + "/step-3.attempt-1/rank-0.safetensors"));
  EXPECT_TRUE(free_bytes(job_ + "/step-2.attempt-1/x").ok());
}

TEST_F(CheckpointFilesTest, OnAFullDiskTheProbeIsTheOneOfAKilledCoordinator) {
  const auto left = write_probe(root_);
  ASSERT_TRUE(left.ok()) << left.status();
  {
    const qwen3::tests::FullDisk full(/*bytes=*/0);
    const auto probe = write_probe(root_);
    ASSERT_TRUE(probe.ok()) << probe.status();
    EXPECT_EQ(probe->file, left->file);
    EXPECT_EQ(probe->content, left->content);
    fs::remove(left->file);
    EXPECT_FALSE(write_probe(root_).ok());
  }
  EXPECT_TRUE(fs::is_empty(root_)) << "half a probe was left";
}

}  // namespace
}  // namespace qwen3::coordinator
