#include "tests/e2e/service_fixture.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <stop_token>

#include "absl/time/clock.h"
#include "client/local/paths.h"
#include "client/local/process.h"
#include "client/local/state.h"
#include "client/watch.h"
#include "spec/config/data_root.h"

namespace qwen3::e2e {
namespace {

namespace fs = std::filesystem;
using client::local::spawn;

constexpr absl::Duration kStartLimit = absl::Seconds(60);

void end_process(pid_t& pid) {
  if (pid == 0) return;
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  pid = 0;
}

// Polls: what it waits for happens in other processes, which announce nothing.
bool eventually(absl::Duration limit, const std::function<bool()>& condition) {
  for (const absl::Time end = absl::Now() + limit; absl::Now() < end; absl::SleepFor(absl::Milliseconds(5))) {
    if (condition()) return true;
  }
  return condition();
}

std::string loopback(int port) { return "127.0.0.1:" + std::to_string(port); }

}  // namespace

Service::Service(int workers, int slots_of_each) : slots_of_each_(slots_of_each), workers_(workers) {
  fs::create_directories(dir_ + "/logs");
  start_coordinator();
  for (int i = 0; i < workers; ++i) start_worker(i);
  wait_for_workers();
}

Service::~Service() {
  for (pid_t& worker : workers_) end_process(worker);
  end_process(coordinator_);
}

std::unique_ptr<client::Client> Service::patient_client() const {
  return std::make_unique<client::Client>(
      client::ClientOptions{.address = address_, .deadline = absl::Minutes(1), .wait_for_ready = true});
}

void Service::kill_coordinator() { end_process(coordinator_); }

void Service::start_coordinator() {
  const std::string ports = dir_ + "/ports.json";
  fs::remove(ports);
  coordinator_ = spawn({QWEN3_BIN_DIR "/qwen3-coordinator", "--listen", loopback(api_port_), "--worker-listen",
                        loopback(worker_port_), "--http-listen", loopback(http_port_), "--state-dir",
                        dir_ + "/coordinator", "--checkpoint-root", dir_ + "/checkpoints", "--data-root",
                        spec::config::default_data_root(), "--port-file", ports},
                       client::local::log_file(dir_, "coordinator"))
                     .pid;
  wait_until_serving();
}

void Service::wait_until_serving() {
  const bool serves = eventually(kStartLimit, [&] {
    if (waitpid(coordinator_, nullptr, WNOHANG) == coordinator_) {
      coordinator_ = 0;
      throw std::runtime_error("the coordinator ended at its start\n" + logs());
    }
    const auto ports = client::local::load_ports(dir_ + "/ports.json");
    if (!ports) return false;
    api_port_ = ports->api;
    worker_port_ = ports->worker;
    http_port_ = ports->http;
    return true;
  });
  if (!serves) throw std::runtime_error("the coordinator does not serve\n" + logs());
  address_ = loopback(api_port_);
}

void Service::kill_worker(int i) { end_process(workers_[i]); }

void Service::start_worker(int i) {
  const std::string id = "w" + std::to_string(i);
  workers_[i] = spawn({QWEN3_BIN_DIR "/qwen3-worker", "--coordinator", loopback(worker_port_), "--id", id, "--slots",
                       std::to_string(slots_of_each_), "--state-dir", dir_ + "/" + id, "--data-root",
                       spec::config::default_data_root()},
                      client::local::log_file(dir_, id))
                    .pid;
}

void Service::wait_for_workers() {
  const auto client = patient_client();
  const bool all = eventually(kStartLimit, [&] {
    const auto workers = client->list_workers();
    return workers.ok() && workers->size() == workers_.size();
  });
  if (!all) throw std::runtime_error("not all workers registered\n" + logs());
}

std::vector<pid_t> Service::ranks_of(int i) const {
  std::vector<pid_t> ranks;
  const fs::path tasks = fs::path("/proc") / std::to_string(workers_[i]) / "task";
  std::error_code gone;  // threads and processes may end while they are read
  for (const auto& task : fs::directory_iterator(tasks, gone)) {
    std::ifstream children(task.path() / "children");
    for (pid_t child; children >> child;) {
      const fs::path binary = fs::read_symlink(fs::path("/proc") / std::to_string(child) / "exe", gone);
      if (binary.filename() == "qwen3-rank") ranks.push_back(child);
    }
  }
  return ranks;
}

void Service::kill_rank(int i) {
  if (!eventually(kStartLimit, [&] { return !ranks_of(i).empty(); })) {
    throw std::runtime_error("daemon has no rank\n" + logs());
  }
  kill(ranks_of(i).at(0), SIGKILL);
}

v1::JobSpec Service::small_job(int slots, int steps) const {
  v1::JobSpec spec;
  spec.mutable_model()->set_flavor("debugmodel");
  spec.mutable_lr_scheduler()->set_warmup_steps(2);
  auto& training = *spec.mutable_training();
  training.set_local_batch_size(1);
  training.set_global_batch_size(2);
  training.set_seq_len(32);
  training.set_steps(steps);
  spec.mutable_checkpoint()->set_interval(4);
  spec.mutable_debug()->set_ordered(true);
  spec.mutable_resources()->set_slots(slots);
  return spec;
}

absl::StatusOr<std::string> Service::submit(const v1::JobSpec& spec) {
  v1::CreateJobRequest request;
  *request.mutable_job()->mutable_spec() = spec;
  const auto job = patient_client()->create_job(request);
  if (!job.ok()) return job.status();
  return job->name();
}

bool Service::wait_for_step(const std::string& job, int64_t step) {
  std::stop_source stop;
  bool reached = false;
  client::Client client({.address = address_});
  const absl::Status end =
      client::watch_metrics(client, job, {.stop = stop.get_token(), .until = absl::Now() + absl::Minutes(1)},
                            [&](const v1::MetricRecord& record, const std::string&) {
                              reached = reached || record.report().step() >= step;
                              if (reached) stop.request_stop();
                            });
  return reached && end.code() == absl::StatusCode::kCancelled;
}

absl::StatusOr<v1::Job> Service::wait(const std::string& job) {
  client::Client client({.address = address_});
  const absl::Status end = client::watch_events(client, job, {.until = absl::Now() + absl::Minutes(3)},
                                                [](const v1::Event&, const std::string&) {});
  if (!end.ok()) return end;
  return patient_client()->get_job(job);
}

std::string Service::logs() const {
  constexpr size_t kLines = 30;
  std::string text;
  for (const auto& file : fs::directory_iterator(dir_ + "/logs")) {
    std::deque<std::string> lines;
    std::ifstream input(file.path());
    for (std::string line; std::getline(input, line);) {
      lines.push_back(line);
      if (lines.size() > kLines) lines.pop_front();
    }
    text += file.path().filename().string() + ":\n";
    for (const std::string& line : lines) text += "  " + line + "\n";
  }
  return text;
}

}  // namespace qwen3::e2e
