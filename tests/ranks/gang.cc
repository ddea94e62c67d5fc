#include "tests/ranks/gang.h"

#include <ATen/Parallel.h>

#include <exception>
#include <memory>
#include <thread>

#include "worker/rank/perform.h"

namespace qwen3::testing {

GangOutcome perform_as_threads(const internal::v1::RankAssignment& assignment,
                               const spec::config::Environment& environment) {
  const auto world = static_cast<size_t>(assignment.world_size());
  std::vector<std::unique_ptr<GangLink>> links;
  links.push_back(std::make_unique<GangLink>(std::shared_future<int>()));
  const std::shared_future<int> port = links.front()->port().share();
  while (links.size() < world) links.push_back(std::make_unique<GangLink>(port));
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
