#include <csignal>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/commands/commands.h"
#include "client/exit_code.h"
#include "client/format/table.h"
#include "client/local/paths.h"
#include "client/local/state.h"
#include "client/local/supervisor.h"

namespace qwen3::client {
namespace {

using local::LocalState;
using local::Member;

constexpr absl::Duration kUpLimit = absl::Seconds(60);
constexpr absl::Duration kDownLimit = absl::Seconds(20);  // above the supervisor's own limit
constexpr absl::Duration kPoll = absl::Milliseconds(20);
constexpr int kFatalRestarts = 5;  // a member that dies so often before the service is ready will not come up
constexpr int kTailLines = 12;

// The folder that was asked for, else `otherwise`.
std::string absolute_dir(const LocalOptions& options, const std::string& otherwise) {
  return std::filesystem::absolute(options.dir.empty() ? otherwise : options.dir).lexically_normal().string();
}

std::vector<const Member*> members(const LocalState& state) {
  std::vector<const Member*> all = {&state.coordinator};
  for (const Member& worker : state.workers) all.push_back(&worker);
  return all;
}

// Waits in small steps; false: the limit passed first.
bool eventually(absl::Duration limit, const std::function<bool()>& condition) {
  for (const absl::Time end = absl::Now() + limit; absl::Now() < end; absl::SleepFor(kPoll)) {
    if (condition()) return true;
  }
  return condition();
}

std::string tail(const std::string& file) {
  std::ifstream input(file);
  std::deque<std::string> lines;
  for (std::string line; std::getline(input, line);) {
    lines.push_back(line);
    if (lines.size() > kTailLines) lines.pop_front();
  }
  std::string text;
  for (const std::string& line : lines) absl::StrAppend(&text, "  ", line, "\n");
  return text;
}

// SIGTERM to the supervisor, which stops the rest; what is left (it may have been killed) is stopped one by one. Only
// processes whose identity is recorded are touched.
bool stop(const LocalState& state) {
  local::send_signal(state.supervisor, SIGTERM);
  const auto gone = [&] {
    for (const Member* member : members(state)) {
      if (local::is_alive(member->process)) return false;
    }
    return !local::is_alive(state.supervisor);
  };
  if (local::is_alive(state.supervisor) && eventually(kDownLimit, gone)) return true;
  for (const int signal : {SIGTERM, SIGKILL}) {
    local::send_signal(state.supervisor, signal);
    for (const Member* member : members(state)) local::send_signal(member->process, signal);
    if (eventually(absl::Seconds(5), gone)) break;
  }
  return gone();
}

enum class Readiness { kReady, kNotYet, kHopeless };

Readiness readiness(const std::string& dir, const LocalOptions& options, std::string* address) {
  const auto state = local::load_state(dir);
  if (!state) return Readiness::kNotYet;
  for (const Member* member : members(*state)) {
    if (member->restarts >= kFatalRestarts) return Readiness::kHopeless;
  }
  if (!local::is_alive(state->supervisor)) return Readiness::kHopeless;
  if (state->address.empty()) return Readiness::kNotYet;
  *address = state->address;
  Client client({.address = state->address, .deadline = absl::Seconds(2), .wait_for_ready = true});
  const auto workers = client.list_workers();
  if (!workers.ok()) return Readiness::kNotYet;
  int ready = 0;
  for (const v1::Worker& worker : *workers) {
    ready += worker.state() == v1::WORKER_STATE_READY || worker.state() == v1::WORKER_STATE_BUSY;
  }
  return ready >= options.workers ? Readiness::kReady : Readiness::kNotYet;
}

Result report_failure(Context& context, const std::string& dir) {
  context.err() << "qwen3ctl: the local service did not come up; its logs are in " << dir << "/logs\n";
  for (const char* member : {"supervisor", "coordinator", "local-0"}) {
    const std::string text = tail(local::log_file(dir, member));
    if (!text.empty()) context.err() << member << ".log:\n" << text;
  }
  if (const auto state = local::load_state(dir)) stop(*state);
  local::remove_state(dir);
  return kUnavailable;
}

}  // namespace

Result local_up(Context& context, const LocalOptions& options) {
  const std::string dir = absolute_dir(options, local::default_dir());
  if (const auto state = local::load_state(dir); state && local::is_alive(state->supervisor)) {
    const int workers = static_cast<int>(state->workers.size());
    if (workers == options.workers && state->slots == options.slots) {
      local::remember_current_dir(dir);
      context.out() << "already running at " << state->address << '\n';
      return 0;
    }
    return absl::FailedPreconditionError(absl::StrCat(dir, " already runs ", workers, " workers of ", state->slots,
                                                      " slots, not ", options.workers, " of ", options.slots,
                                                      "; stop it first with: qwen3ctl local down --dir ", dir));
  } else if (state) {
    stop(*state);  // what a killed supervisor left behind
    local::remove_state(dir);
  }
  const local::ServiceOptions service{.dir = dir,
                                      .bin_dir = options.bin_dir.empty() ? local::own_folder() : options.bin_dir,
                                      .workers = options.workers,
                                      .slots = options.slots};
  for (const char* binary : {"qwen3-coordinator", "qwen3-worker"}) {
    const std::string path = absl::StrCat(service.bin_dir, "/", binary);
    if (!std::filesystem::exists(path)) return absl::NotFoundError(absl::StrCat("there is no ", path));
  }
  for (const char* folder : {"logs", "coordinator", "checkpoints", "workers"}) {
    std::filesystem::create_directories(absl::StrCat(dir, "/", folder));
  }
  local::launch_supervisor(service);
  std::string address;
  Readiness now = Readiness::kNotYet;
  eventually(kUpLimit, [&] { return (now = readiness(dir, options, &address)) != Readiness::kNotYet; });
  if (now != Readiness::kReady) return report_failure(context, dir);
  local::remember_current_dir(dir);
  context.out() << "local service at " << address << " with " << options.workers << " workers of " << options.slots
                << " slots in " << dir << '\n';
  return 0;
}

Result local_down(Context& context, const LocalOptions& options) {
  const std::string dir = absolute_dir(options, local::current_dir());
  const auto state = local::load_state(dir);
  if (!state) {
    context.out() << "no local service in " << dir << '\n';
    return 0;
  }
  if (!stop(*state)) return absl::UnavailableError(absl::StrCat("some processes of ", dir, " do not end"));
  local::remove_state(dir);
  context.out() << "stopped\n";
  return 0;
}

Result local_status(Context& context, const LocalOptions& options) {
  const std::string dir = absolute_dir(options, local::current_dir());
  const auto state = local::load_state(dir);
  if (!state || !local::is_alive(state->supervisor)) {
    return absl::NotFoundError(absl::StrCat("no local service runs in ", dir));
  }
  if (context.json()) {
    std::ifstream file(absl::StrCat(dir, "/local.json"));
    context.out() << file.rdbuf();
    return 0;
  }
  context.out() << "address: " << (state->address.empty() ? "not serving yet" : state->address)
                << "\nmetrics: http://127.0.0.1:" << state->ports.http << "/metrics\nlogs: " << dir << "/logs\n";
  Table table({"PROCESS", "PID", "STATE", "RESTARTS"});
  table.add({"supervisor", absl::StrCat(state->supervisor.pid), "running", "0"});
  for (const Member* member : members(*state)) {
    table.add({member->name, absl::StrCat(member->process.pid),
               local::is_alive(member->process) ? "running" : "restarting", absl::StrCat(member->restarts)});
  }
  table.print(context.out());
  return 0;
}

Result local_supervise(const LocalOptions& options) {
  return local::supervise(
      {.dir = options.dir, .bin_dir = options.bin_dir, .workers = options.workers, .slots = options.slots});
}

}  // namespace qwen3::client
