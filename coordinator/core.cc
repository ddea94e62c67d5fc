#include "coordinator/core.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <limits>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/job_state.h"
#include "coordinator/names.h"
#include "coordinator/submission.h"

namespace qwen3::coordinator {
namespace {

constexpr int kTickMs = 100;
constexpr int kTicksPerBeat = 10;
constexpr int kReaders = 2;
constexpr absl::Duration kRequestIdsKept = absl::Hours(24 * 7);

int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// A commit that failed: memory is ahead of the disk, so this process must not answer anything more. The next start
// reads what is there; daemons and clients repeat what was not acknowledged.
void die(const absl::Status& status) {
  spdlog::critical("cannot write the database, stopping: {}", status.ToString());
  std::_Exit(74);  // EX_IOERR
}

}  // namespace

Core::Core(Options options) : options_(std::move(options)), boot_wall_(absl::Now()), boot_steady_ns_(steady_ns()) {}

absl::Time Core::now() const { return boot_wall_ + absl::Nanoseconds(steady_ns() - boot_steady_ns_); }

absl::StatusOr<std::unique_ptr<Core>> Core::open(const Options& options) {
  std::unique_ptr<Core> core(new Core(options));
  if (absl::Status status = core->load(); !status.ok()) return status;
  return core;
}

absl::Status Core::load() {
  const std::string database = options_.state_dir + "/coordinator.db";
  const std::string records = options_.state_dir + "/records";
  std::error_code error;
  std::filesystem::create_directories(records, error);
  if (error) return absl::FailedPreconditionError(absl::StrCat("cannot create ", records, ": ", error.message()));
  auto probe = write_probe(options_.checkpoint_root);
  if (!probe.ok()) return probe.status();
  probe_ = *std::move(probe);
  auto store = Store::open(database, die);
  if (!store.ok()) return store.status();
  auto reader = StoreReader::open(database);
  if (!reader.ok()) return reader.status();
  reader_ = *std::move(reader);

  StoredState state;
  auto jobs = reader_->jobs(std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::max(), Rows::kBoth);
  if (!jobs.ok()) return jobs.status();
  state.jobs = *std::move(jobs);
  for (const internal::v1::StoredJob& job : state.jobs) {
    if (is_terminal(job.job().state())) continue;
    auto attempts = reader_->attempts(job.job().name());
    if (!attempts.ok()) return attempts.status();
    state.attempts[job.job().name()] = *std::move(attempts);
    auto checkpoints = reader_->checkpoints(job.job().name());
    if (!checkpoints.ok()) return checkpoints.status();
    for (v1::Checkpoint& checkpoint : *checkpoints) {
      if (checkpoint.state() == v1::CHECKPOINT_STATE_COMMITTED) {
        state.checkpoints[job.job().name()].push_back(std::move(checkpoint));
      }
    }
  }
  auto requests = reader_->requests(absl::ToUnixSeconds(boot_wall_ - kRequestIdsKept));
  if (!requests.ok()) return requests.status();
  state.requests = *std::move(requests);

  readers_ = std::make_unique<Executor>(kReaders);
  disk_ = std::make_unique<Executor>(1);
  state_ = std::make_unique<Executor>(1);
  records_ = std::make_unique<Records>(records, [this] { return check_state_disk(options_.state_dir).ok(); });
  store_ = *std::move(store);
  ControllerOptions controller{.leases = options_.leases,
                               .checkpoint_root = options_.checkpoint_root,
                               .probe_file = probe_.file,
                               .probe_content = probe_.content,
                               .evidence_window = options_.evidence_window,
                               .exit_window = options_.exit_window,
                               .cancel_grace = options_.cancel_grace};
  controller_ = std::make_unique<Controller>(std::move(controller), *this, now());
  std::promise<void> loaded;
  state_->post([this, &state, &loaded] {
    controller_->load(state, now());
    repair(state);
    loaded.set_value();
  });
  loaded.get_future().wait();
  ticker_ = std::make_unique<Ticker>(kTickMs, [this] {
    state_->post([this] { controller_->tick(now()); });
    if (++ticks_ % kTicksPerBeat == 0) hub_.beat_all();
  });
  return absl::OkStatus();
}

// What a crash may have left under the checkpoint root: a folder whose deletion was decided goes, and even if it cannot
// go it is no checkpoint any more, as little as one that could not be read; another manifest without its event gets the
// event; a folder without a manifest and without a living attempt goes.
void Core::repair(const StoredState& state) {
  const auto unusable = reader_->unusable_checkpoints();
  if (!unusable.ok()) {
    spdlog::error("the checkpoint root is not looked at: {}", unusable.status().ToString());
    return;
  }
  std::set<std::string> given_up;  // by name
  for (const v1::Checkpoint& checkpoint : *unusable) {
    given_up.insert(checkpoint.name());
    std::error_code error;
    if (checkpoint.state() != v1::CHECKPOINT_STATE_DELETED) continue;
    if (!std::filesystem::exists(checkpoint.folder(), error)) continue;
    if (absl::Status status = remove_checkpoint(checkpoint.folder(), options_.checkpoint_root); !status.ok()) {
      spdlog::warn("{}", status.ToString());
    }
  }
  for (const internal::v1::StoredJob& job : state.jobs) {
    const std::string& name = job.job().name();
    if (job.has_task()) continue;  // it writes no checkpoints
    int32_t living = 0;
    if (!is_terminal(job.job().state())) {
      const auto attempts = state.attempts.find(name);
      if (attempts != state.attempts.end() && !attempts->second.empty() && !attempts->second.back().ended()) {
        living = attempts->second.back().attempt().number();
      }
      for (const v1::Checkpoint& checkpoint : scan_committed(name, job.checkpoint_folder())) {
        if (!given_up.contains(checkpoint.name())) controller_->on_found_checkpoint(checkpoint, name, now());
      }
    }
    for (const std::string& folder :
         sweep_torn(job.checkpoint_folder(), [living](int32_t attempt) { return attempt != living; })) {
      spdlog::info("{}: deleted {}, a checkpoint that was never committed", name, folder);
    }
  }
}

Core::~Core() { stop(); }

void Core::stop() {
  ticker_.reset();
  if (readers_) readers_->stop();
  if (disk_) disk_->stop();
  records_.reset();
  if (state_) state_->stop();  // its last tasks still write
  store_.reset();
  std::error_code ignored;
  if (!probe_.file.empty()) std::filesystem::remove(probe_.file, ignored);
}

bool Core::ask_state(std::function<void()> read) {
  auto done = std::make_shared<std::promise<void>>();
  auto answered = done->get_future();
  state_->post([read = std::move(read), done] {
    read();
    done->set_value();
  });
  return answered.wait_for(std::chrono::seconds(1)) == std::future_status::ready;
}

int64_t Core::add_session(std::shared_ptr<SessionSink> sink) {
  const std::lock_guard lock(sessions_mutex_);
  sessions_[next_session_] = std::move(sink);
  return next_session_++;
}

void Core::remove_session(int64_t session) {
  {
    const std::lock_guard lock(sessions_mutex_);
    sessions_.erase(session);
  }
  state_->post([this, session] { controller_->on_closed(session, now()); });
}

void Core::end_sessions() {
  std::map<int64_t, std::shared_ptr<SessionSink>> all;
  {
    const std::lock_guard lock(sessions_mutex_);
    all = sessions_;
  }
  for (const auto& [session, sink] : all) sink->close(absl::UnavailableError("the coordinator stops; connect again"));
}

void Core::send(int64_t session, const internal::v1::CoordinatorMessage& message) {
  std::shared_ptr<SessionSink> sink;
  {
    const std::lock_guard lock(sessions_mutex_);
    const auto known = sessions_.find(session);
    if (known != sessions_.end()) sink = known->second;
  }
  if (sink) sink->send(message);
}

void Core::close(int64_t session, const absl::Status& why) {
  std::shared_ptr<SessionSink> sink;
  {
    const std::lock_guard lock(sessions_mutex_);
    const auto known = sessions_.find(session);
    if (known != sessions_.end()) sink = known->second;
  }
  spdlog::warn("session {} ended: {}", session, why.ToString());
  if (sink) sink->close(why);
}

void Core::write(Write write, std::function<void()> done) {
  for (const StoredEvent& stored : write.events) {
    spdlog::info("{} [{}] {}: {}", write.job->job().name(), stored.event.seq(), stored.event.kind(),
                 stored.event.message());
  }
  std::string job = write.job ? write.job->job().name() : "";
  store_->write(std::move(write), [this, job = std::move(job), done = std::move(done)]() mutable {
    if (!job.empty()) hub_.wake(job);
    if (done) state_->post(std::move(done));
  });
}

void Core::commit_checkpoint(CheckpointParts parts, std::function<void(absl::StatusOr<CommittedCheckpoint>)> done) {
  disk_->post([this, parts = std::move(parts), done = std::move(done)] {
    auto result = coordinator::commit_checkpoint(parts, options_.checkpoint_root);
    state_->post([done, result = std::move(result)] { done(result); });
  });
}

void Core::remove_folders(std::vector<std::string> folders) {
  disk_->post([this, folders = std::move(folders)] {
    for (const std::string& folder : folders) {
      if (absl::Status status = remove_checkpoint(folder, options_.checkpoint_root); !status.ok()) {
        spdlog::warn("{}", status.ToString());
      }
    }
  });
}

void Core::sweep(std::string job_folder, int32_t attempt) {
  disk_->post([folder = std::move(job_folder), attempt] {
    sweep_torn(folder, [attempt](int32_t other) { return other < attempt; });
  });
}

void Core::on_queue_wait(absl::Duration wait) { metrics_.observe_queue_wait(wait); }
void Core::on_progress(const std::string& job, const v1::Progress& progress) { metrics_.set_progress(job, progress); }
void Core::on_ended(const std::string& job) { metrics_.remove_job(job); }

}  // namespace qwen3::coordinator
