// qwen3-rank: one per device and attempt, started by qwen3-worker; or an engine of its own for debugging.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/cpu/recycling_allocator.h"
#include "spec/build_info/build_info.h"
#include "spec/config/data_root.h"
#include "spec/config/fast_bfloat16.h"
#include "spec/config/load.h"
#include "worker/rank/daemon_link.h"
#include "worker/rank/error_boundary.h"
#include "worker/rank/perform.h"
#include "worker/rank/standalone_link.h"

namespace {

using namespace qwen3;

spec::config::Environment environment() {
  return {.fast_bfloat16 = spec::config::host_has_fast_bfloat16(), .data_root = spec::config::default_data_root()};
}

int end(rank::Link& link, const std::optional<internal::v1::RankFailed>& failed) {
  if (!failed) return 0;
  std::fprintf(stderr, "%s: %s\n", failed->failure().reason().c_str(), failed->failure().message().c_str());
  link.failed(*failed);
  return 1;
}

int run_for_daemon(int fd) {
  auto link = std::make_unique<rank::DaemonLink>(fd);
  const int code = end(*link, rank::run_guarded([&] { rank::perform(link->assignment(), environment(), *link); }));
  link.reset();
  std::fflush(nullptr);
  // Threads of a process group whose peers are gone may never join; nothing is left to be saved.
  std::_Exit(code);
}

int run_standalone(const std::string& config, const std::vector<std::string>& overrides, const std::string& output) {
  std::ifstream file(config);
  if (!file) {
    std::fprintf(stderr, "qwen3-rank: cannot read %s\n", config.c_str());
    return 1;
  }
  std::stringstream text;
  text << file.rdbuf();
  // One process is one rank, whatever mesh the file is for; --set still wins.
  std::vector<std::string> settings = {"resources.slots=1", "parallelism.data_parallel_replicate_degree=1",
                                       "parallelism.data_parallel_shard_degree=1"};
  settings.insert(settings.end(), overrides.begin(), overrides.end());
  const spec::config::ParsedJob job =
      spec::config::load_job(text.str(), config, std::filesystem::current_path().string(), settings, environment());
  for (const std::string& warning : job.warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  for (const std::string& error : job.errors) std::fprintf(stderr, "%s\n", error.c_str());
  if (!job.errors.empty()) return 2;

  internal::v1::RankAssignment assignment;
  assignment.set_job("standalone");
  assignment.set_attempt(1);
  assignment.set_world_size(1);
  *assignment.mutable_spec() = job.spec;
  assignment.set_checkpoint_folder(std::filesystem::absolute(output));
  rank::StandaloneLink link;
  return end(link, rank::run_guarded([&] { rank::perform(assignment, environment(), link); }));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "One rank of a Qwen3 training job. Started by qwen3-worker; by hand only to debug an engine.\n"
      "Example: qwen3-rank --standalone configs/debugmodel.toml --set training.steps=10"};
  app.set_version_flag("--version", std::string(build_id()));
  int control_fd = -1;
  std::string config, output = "standalone-checkpoints";
  std::vector<std::string> overrides;
  app.add_option("--control-fd", control_fd, "Inherited control socket (given by qwen3-worker)");
  app.add_option("--standalone", config, "Run this TOML on one rank without a service");
  app.add_option("--set", overrides, "section.key=value, wins over the TOML; may be repeated");
  app.add_option("--output", output, "Folder for checkpoints of a standalone run")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  kernels::install_recycling_allocator();
  if (!config.empty()) return run_standalone(config, overrides, output);
  if (control_fd >= 0) return run_for_daemon(control_fd);
  std::fprintf(stderr, "qwen3-rank: give --standalone CONFIG (qwen3-worker gives --control-fd)\n");
  return 1;
}
