#include "tests/ranks/gang.h"

#include <ATen/Parallel.h>

#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>
#include <thread>

#include "worker/rank/perform.h"

namespace qwen3::testing {

void GangCommits::prepared(const internal::v1::PreparedCheckpoint& checkpoint) {
  const auto check = [](const absl::Status& status) {
    if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  };
  const auto part = checkpoint::from_json(checkpoint.manifest_part());
  check(part.status());
  const std::lock_guard lock(mutex_);
  std::vector<checkpoint::Manifest>& parts = parts_[checkpoint.step()];
  parts.push_back(*part);
  if (parts.size() < world_) return;
  const auto manifest = checkpoint::merge(parts);
  check(manifest.status());
  check(checkpoint::write_manifest(checkpoint.folder(), *manifest));
  newest_ = checkpoint.step();
  changed_.notify_all();
}

int64_t GangCommits::newest() {
  const std::lock_guard lock(mutex_);
  return newest_;
}

void GangCommits::wait(int64_t step) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, std::chrono::minutes(1), [&] { return newest_ >= step; })) {
    throw std::runtime_error("step " + std::to_string(step) + " was not committed: a rank did not prepare its part");
  }
}

GangOutcome perform_as_threads(const internal::v1::RankAssignment& assignment,
                               const spec::config::Environment& environment) {
  const auto world = static_cast<size_t>(assignment.world_size());
  std::vector<std::unique_ptr<GangLink>> links;
  GangCommits commits(world);
  links.push_back(std::make_unique<GangLink>(std::shared_future<int>(), commits));
  const std::shared_future<int> port = links.front()->port().share();
  while (links.size() < world) links.push_back(std::make_unique<GangLink>(port, commits));
  std::vector<std::string> errors(world);
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < world; ++rank) {
    threads.emplace_back([&, rank] {
      at::set_num_threads(1);
      internal::v1::RankAssignment mine = assignment;
      mine.set_rank(static_cast<int32_t>(rank));
      try {
        rank::perform(mine, environment, *links[rank]);
      } catch (const std::exception& e) {
        errors[rank] = e.what();
        if (rank > 0) return;
        try {
          links[0]->give_up();
        } catch (const std::future_error&) {  // the store was there
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  GangOutcome outcome{links[0]->result, links[0]->steps, links[0]->progress_reports, ""};
  for (const std::string& error : errors) {
    if (outcome.error.empty()) outcome.error = error;
  }
  return outcome;
}

}  // namespace qwen3::testing
