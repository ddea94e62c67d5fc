#include "tests/ranks/checkpointed_run.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "checkpoint/manifest.h"
#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"
#include "worker/rank/checkpointer.h"
#include "worker/rank/trainer.h"
#include "worker/rank/training_state.h"

namespace qwen3::testing {

std::string CheckpointedRuns::run_steps(const spec::RunSpec& run, int64_t from, int64_t to,
                                        const std::string& restore) {
  std::mutex mutex;
  std::map<int64_t, checkpoint::Manifest> parts;
  std::string written;
  std::set<std::string> in_memory;  // what the ranks say of their state
  ++attempt_;
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& devices) {
    data::Splits data{text_of(run), nullptr};
    rank::Trainer trainer(run, devices, data);
    rank::Checkpointer checkpointer(run, devices, trainer.model(), {folder_.path(), attempt_, "{}"},
                                    [&](const internal::v1::PreparedCheckpoint& prepared) {
                                      ASSERT_EQ(prepared.error(), "") << "step " << prepared.step();
                                      const auto part = checkpoint::from_json(prepared.manifest_part());
                                      ASSERT_TRUE(part.ok()) << part.status();
                                      const std::lock_guard lock(mutex);
                                      parts[devices.rank()] = *part;
                                      written = prepared.folder();
                                    });
    checkpoint::RunState state;
    if (!restore.empty()) state = checkpointer.restore(restore, {});
    ASSERT_EQ(state.step, from);
    std::vector<double> losses;
    while (state.step < to) {
      const rank::StepMetrics metrics = trainer.step(state.step + 1, {}).metrics;
      state.step = metrics.step;
      losses.push_back(metrics.loss);
    }
    checkpointer.save(state, /*last=*/true);
    const std::string digest = rank::state_digest(trainer.model());  // collective
    const std::lock_guard lock(mutex);
    in_memory.insert(digest);
    if (devices.rank() == 0) losses_ = losses;
  });
  std::vector<checkpoint::Manifest> in_order;
  for (auto& [rank, part] : parts) in_order.push_back(std::move(part));
  const auto manifest = checkpoint::merge(in_order);
  EXPECT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(in_memory, std::set<std::string>{manifest->state_digest});
  EXPECT_TRUE(checkpoint::write_manifest(written, *manifest).ok());
  return written;
}

std::string CheckpointedRuns::digest(const std::string& folder) {
  return checkpoint::read_manifest(folder)->state_digest;
}

}  // namespace qwen3::testing
