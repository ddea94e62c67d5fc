// A run that is cut and goes on, on the same or another mesh, is bitwise the run that was not cut.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <mutex>

#include "checkpoint/manifest.h"
#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"
#include "tests/temporary_folder.h"
#include "worker/rank/checkpointer.h"
#include "worker/rank/trainer.h"

namespace qwen3::testing {
namespace {

class Restore : public ::testing::Test {
 protected:
  // Runs steps (from, to] on `mesh`, restored from `restore` unless empty; returns the folder of the committed
  // checkpoint of step `to`.
  std::string run_steps(const spec::Mesh& mesh, int64_t from, int64_t to, const std::string& restore) {
    const spec::RunSpec run = tiny_run(mesh, /*tied=*/true);
    std::mutex mutex;
    std::map<int64_t, checkpoint::Manifest> parts;
    std::string written;
    ++attempt_;
    run_ranks(mesh, [&](const parallel::DeviceMesh& devices) {
      data::Splits data{std::make_shared<SyntheticText>(50, run.data.seq_len, run.model.vocab), nullptr};
      rank::Trainer trainer(run, devices, data);
      rank::Checkpointer checkpointer(
          run, devices, trainer.model(), {folder_.path(), attempt_, "{}"},
          [&](const internal::v1::PreparedCheckpoint& prepared) {
            const auto part = checkpoint::from_json(prepared.manifest_part());
            ASSERT_TRUE(part.ok()) << part.status();
            const std::lock_guard lock(mutex);
            parts[devices.rank()] = *part;
            written = prepared.folder();
          },
          [](int64_t step, const std::string& reason) { ADD_FAILURE() << "step " << step << " skipped: " << reason; });
      checkpoint::RunState state;
      if (!restore.empty()) state = checkpointer.restore(restore, /*model_only=*/false);
      ASSERT_EQ(state.step, from);
      while (state.step < to) state.step = trainer.step(state.step + 1, {}).metrics.step;
      checkpointer.save(state, /*last=*/true);
    });
    std::vector<checkpoint::Manifest> in_order;
    for (auto& [rank, part] : parts) in_order.push_back(std::move(part));
    const auto manifest = checkpoint::merge(in_order);
    EXPECT_TRUE(manifest.ok()) << manifest.status();
    EXPECT_TRUE(checkpoint::write_manifest(written, *manifest).ok());
    return written;
  }

  static std::string digest(const std::string& folder) { return checkpoint::read_manifest(folder)->state_digest; }

  const tests::TemporaryFolder folder_{"restore"};
  int32_t attempt_ = 0;
};

TEST_F(Restore, AnyMeshContinuesAnyOther) {
  const std::string whole = run_steps(data_parallel_mesh(1, 1), 0, 6, "");
  const spec::Mesh meshes[] = {data_parallel_mesh(1, 1), data_parallel_mesh(1, 2), data_parallel_mesh(1, 4),
                               data_parallel_mesh(2, 1), data_parallel_mesh(2, 2)};
  for (const spec::Mesh& first : meshes) {
    const std::string cut = run_steps(first, 0, 3, "");
    for (const spec::Mesh& second : meshes) {
      SCOPED_TRACE(::testing::PrintToString(first.degrees) + " then " + ::testing::PrintToString(second.degrees));
      EXPECT_EQ(digest(run_steps(second, 3, 6, cut)), digest(whole));
    }
  }
}

TEST_F(Restore, ALostMomentWouldShow) {  // or the test above could not fail
  const std::string cut = run_steps(data_parallel_mesh(1, 1), 0, 3, "");
  const std::string restarted = run_steps(data_parallel_mesh(1, 1), 0, 3, "");
  EXPECT_EQ(digest(cut), digest(restarted));
  EXPECT_NE(digest(run_steps(data_parallel_mesh(1, 1), 3, 6, cut)), digest(cut));
}

TEST_F(Restore, AnotherModelIsRefusedByTensorAndShape) {
  const std::string cut = run_steps(data_parallel_mesh(1, 1), 0, 1, "");
  spec::RunSpec run = tiny_run(data_parallel_mesh(1, 1), /*tied=*/true);
  run.model.ffn_hidden = 96;
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& devices) {
    rank::Trainer trainer(run, devices, {std::make_shared<SyntheticText>(50, 24, 101), nullptr});
    rank::Checkpointer checkpointer(run, devices, trainer.model(), {folder_.path(), 9, "{}"}, nullptr, nullptr);
    try {
      checkpointer.restore(cut, /*model_only=*/true);
      ADD_FAILURE() << "accepted";
    } catch (const std::runtime_error& e) {
      EXPECT_NE(std::string(e.what()).find("feed_forward.w1.weight has shape"), std::string::npos) << e.what();
    }
  });
}

}  // namespace
}  // namespace qwen3::testing
