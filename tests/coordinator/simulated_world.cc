#include "tests/coordinator/simulated_world.h"

#include <stdexcept>
#include <utility>

#include "coordinator/job_state.h"
#include "coordinator/names.h"

namespace qwen3::coordinator::testing {

using internal::v1::AttemptKey;
using internal::v1::CoordinatorMessage;
using internal::v1::WorkerMessage;

SimulatedWorld::SimulatedWorld() { restart_coordinator(); }

void SimulatedWorld::restart_coordinator() {
  pending_.clear();
  held_.clear();
  sessions_.clear();
  sent_.clear();
  StoredState state;
  for (const auto& [name, job] : jobs) {
    state.jobs.push_back(job);
    if (is_terminal(job.job().state())) continue;
    for (const auto& [number, attempt] : attempts[name]) state.attempts[name].push_back(attempt);
    for (const auto& [step, checkpoint] : checkpoints[name]) {
      if (checkpoint.state() != v1::CHECKPOINT_STATE_COMMITTED) continue;
      v1::Checkpoint& loaded = state.checkpoints[name].emplace_back(checkpoint);
      for (const StoredEvaluation& stored : evaluations) {
        if (stored.job == name && stored.step == step) *loaded.add_evaluations() = stored.evaluation;
      }
    }
  }
  for (const auto& [id, request] : requests) state.requests.push_back(request);
  ControllerOptions options;
  options.checkpoint_root = "/root";
  options.probe_file = "/root/.probe";
  options.probe_content = "probe";
  controller_ = std::make_unique<Controller>(options, *this, now);
  controller_->load(state, now);
}

void SimulatedWorld::settle() {
  while (!pending_.empty()) {
    const auto task = std::move(pending_.front());
    pending_.pop_front();
    task();
  }
}

void SimulatedWorld::pass(absl::Duration time) {
  const absl::Time end = now + time;
  while (now < end) {
    now += absl::Milliseconds(100);
    controller_->tick(now);
    settle();
  }
}

void SimulatedWorld::pass_with_beats(absl::Duration time) {
  WorkerMessage beat;
  beat.mutable_beat();
  const absl::Time end = now + time;
  while (now < end) {
    pass(absl::Milliseconds(100));
    for (const auto& [worker, session] : sessions_) controller_->on_message(session, beat, now);
    settle();
  }
}

std::string SimulatedWorld::submit(const std::string& id, int64_t ranks) {
  NewJob job;
  v1::Job& record = *job.stored.mutable_job();
  record.set_name(job_name(id));
  record.mutable_plan()->set_world_size(ranks);
  record.mutable_spec()->mutable_training()->set_steps(100);
  record.mutable_spec()->mutable_checkpoint()->set_keep_latest_k(2);
  record.mutable_spec()->mutable_checkpoint()->set_keep_best_k(keep_best);
  record.mutable_spec()->mutable_retry()->set_max_infra_retries(10);
  record.mutable_spec()->mutable_retry()->set_max_attempts_without_progress(3);
  job.stored.set_checkpoint_folder("/root/checkpoint/" + id);
  controller_->create(std::move(job), now, [](const absl::StatusOr<CreatedJob>&) {});
  settle();
  return job_name(id);
}

std::string SimulatedWorld::submit_evaluation(const std::string& id, int64_t ranks, const std::string& checkpoint,
                                              const std::string& data) {
  NewJob task;
  task.stored.mutable_job()->set_name(operation_name(id));
  task.stored.mutable_job()->mutable_plan()->set_world_size(ranks);
  task.stored.mutable_task()->mutable_evaluation()->set_tokens_file(data);
  task.stored.mutable_task()->mutable_evaluation()->mutable_model()->set_checkpoint(checkpoint);
  if (const auto parsed = parse_checkpoint_name(checkpoint)) {
    task.stored.mutable_task()->set_checkpoint(checkpoint);
    task.stored.mutable_task()->mutable_source()->set_native(checkpoints[parsed->job].at(parsed->step).folder());
  } else {
    task.stored.mutable_task()->mutable_source()->set_hf("/models/hf");
  }
  controller_->create(std::move(task), now, [](const absl::StatusOr<CreatedJob>&) {});
  settle();
  return operation_name(id);
}

std::string SimulatedWorld::submit_conversion(const std::string& id) {
  NewJob task;
  task.stored.mutable_job()->set_name(operation_name(id));
  task.stored.mutable_job()->mutable_plan()->set_world_size(1);
  task.stored.mutable_task()->mutable_conversion()->set_native("/models/native");
  task.stored.mutable_task()->mutable_source()->set_hf("/models/hf");
  controller_->create(std::move(task), now, [](const absl::StatusOr<CreatedJob>&) {});
  settle();
  return operation_name(id);
}

void SimulatedWorld::report_progress(const std::string& worker, const AttemptKey& key, int64_t done, int64_t total) {
  WorkerMessage message;
  internal::v1::AttemptProgress& progress = *message.mutable_beat()->add_progress();
  *progress.mutable_key() = key;
  progress.mutable_task()->set_done(done);
  progress.mutable_task()->set_total(total);
  progress.mutable_task()->set_unit("microbatches");
  say(worker, message);
}

void SimulatedWorld::finish_evaluation(const std::string& worker, const AttemptKey& key, int32_t rank, double loss) {
  WorkerMessage message;
  *message.mutable_rank_exit()->mutable_key() = key;
  message.mutable_rank_exit()->set_rank(rank);
  message.mutable_rank_exit()->set_finished(true);
  if (rank == 0) message.mutable_rank_exit()->mutable_result()->mutable_evaluation()->set_loss(loss);
  say(worker, message);
}

void SimulatedWorld::finish_conversion(const std::string& worker, const AttemptKey& key) {
  WorkerMessage message;
  *message.mutable_rank_exit()->mutable_key() = key;
  message.mutable_rank_exit()->set_finished(true);
  message.mutable_rank_exit()->mutable_result()->mutable_conversion()->set_tensors(3);
  say(worker, message);
}

void SimulatedWorld::fail(const std::string& worker, const AttemptKey& key, int32_t rank, v1::FailureClass whose,
                          const std::string& message, const std::string& reason) {
  WorkerMessage exit;
  *exit.mutable_rank_exit()->mutable_key() = key;
  exit.mutable_rank_exit()->set_rank(rank);
  exit.mutable_rank_exit()->set_exit_code(1);
  exit.mutable_rank_exit()->mutable_failure()->set_reason(reason);
  exit.mutable_rank_exit()->mutable_failure()->set_class_(whose);
  exit.mutable_rank_exit()->mutable_failure()->set_message(message);
  say(worker, exit);
}

void SimulatedWorld::connect(const std::string& worker, int32_t slots, const std::string& incarnation,
                             const std::vector<AttemptKey>& running, const std::string& build) {
  const int64_t session = next_session_++;
  sessions_[worker] = session;
  WorkerMessage message;
  internal::v1::Hello& hello = *message.mutable_hello();
  hello.set_worker(worker);
  hello.set_incarnation(incarnation);
  hello.set_slots(slots);
  hello.set_device_kind("cpu");
  hello.set_build_id(build);
  hello.set_advertise_address("127.0.0.1");
  for (const AttemptKey& key : running) *hello.add_running()->mutable_key() = key;
  controller_->on_message(session, message, now);
  hello.set_checkpoint_root_probe("probe");
  controller_->on_message(session, message, now);
  settle();
}

void SimulatedWorld::disconnect(const std::string& worker) {
  controller_->on_closed(sessions_.at(worker), now);
  sessions_.erase(worker);
  settle();
}

void SimulatedWorld::say(const std::string& worker, const WorkerMessage& message) {
  const auto session = sessions_.find(worker);
  if (session == sessions_.end()) return;
  controller_->on_message(session->second, message, now);
  settle();
}

void SimulatedWorld::accept(const std::string& worker, const AttemptKey& key) {
  WorkerMessage message;
  *message.mutable_assign_reply()->mutable_key() = key;
  message.mutable_assign_reply()->set_accepted(true);
  say(worker, message);
}

void SimulatedWorld::store_ready(const std::string& worker, const AttemptKey& key, const std::string& address) {
  WorkerMessage message;
  *message.mutable_store_ready()->mutable_key() = key;
  message.mutable_store_ready()->set_address(address);
  say(worker, message);
}

void SimulatedWorld::decline(const std::string& worker, const AttemptKey& key) {
  WorkerMessage message;
  *message.mutable_assign_reply()->mutable_key() = key;
  message.mutable_assign_reply()->set_message("no");
  say(worker, message);
}

void SimulatedWorld::step(const std::string& worker, const AttemptKey& key, int64_t step) {
  WorkerMessage message;
  *message.mutable_first_step()->mutable_key() = key;
  message.mutable_first_step()->set_step(step);
  say(worker, message);
}

void SimulatedWorld::prepare(const std::string& worker, const AttemptKey& key, int32_t rank, int64_t step) {
  WorkerMessage message;
  *message.mutable_prepared()->mutable_key() = key;
  message.mutable_prepared()->set_rank(rank);
  message.mutable_prepared()->mutable_checkpoint()->set_step(step);
  message.mutable_prepared()->mutable_checkpoint()->set_folder("/root/checkpoint/" + job_id(key.job()) + "/step-" +
                                                               std::to_string(step) + ".attempt-" +
                                                               std::to_string(key.attempt()));
  say(worker, message);
}

void SimulatedWorld::fail_to_prepare(const std::string& worker, const AttemptKey& key, int32_t rank, int64_t step,
                                     const std::string& error) {
  WorkerMessage message;
  *message.mutable_prepared()->mutable_key() = key;
  message.mutable_prepared()->set_rank(rank);
  message.mutable_prepared()->mutable_checkpoint()->set_step(step);
  message.mutable_prepared()->mutable_checkpoint()->set_error(error);
  say(worker, message);
}

void SimulatedWorld::exit_by_signal(const std::string& worker, const AttemptKey& key, int32_t rank, int32_t signal,
                                    bool aborted) {
  WorkerMessage message;
  *message.mutable_rank_exit()->mutable_key() = key;
  message.mutable_rank_exit()->set_rank(rank);
  message.mutable_rank_exit()->set_exit_code(-1);
  message.mutable_rank_exit()->set_signal(signal);
  message.mutable_rank_exit()->set_aborted(aborted);
  say(worker, message);
}

void SimulatedWorld::exit_as_victim(const std::string& worker, const AttemptKey& key, int32_t rank) {
  WorkerMessage message;
  *message.mutable_rank_exit()->mutable_key() = key;
  message.mutable_rank_exit()->set_rank(rank);
  message.mutable_rank_exit()->set_exit_code(1);
  message.mutable_rank_exit()->set_peer_lost(true);
  say(worker, message);
}

void SimulatedWorld::finish(const std::string& worker, const AttemptKey& key, int32_t rank, int64_t step,
                            bool stopped) {
  WorkerMessage message;
  *message.mutable_rank_exit()->mutable_key() = key;
  message.mutable_rank_exit()->set_rank(rank);
  message.mutable_rank_exit()->set_finished(true);
  message.mutable_rank_exit()->mutable_result()->set_step(step);
  message.mutable_rank_exit()->mutable_result()->set_stopped(stopped);
  say(worker, message);
}

std::vector<CoordinatorMessage> SimulatedWorld::read(const std::string& worker) {
  const auto session = sessions_.find(worker);
  if (session == sessions_.end()) return {};
  return std::exchange(sent_[session->second], {});
}

std::unique_ptr<internal::v1::Assign> SimulatedWorld::read_assign(const std::string& worker) {
  for (CoordinatorMessage& message : read(worker)) {
    if (message.has_assign()) return std::make_unique<internal::v1::Assign>(message.assign());
  }
  return nullptr;
}

void SimulatedWorld::send(int64_t session, const CoordinatorMessage& message) { sent_[session].push_back(message); }

void SimulatedWorld::close(int64_t session, const absl::Status& why) { closed_sessions[session] = why; }

void SimulatedWorld::write(Write write, std::function<void()> done) {
  pending_.push_back([this, write = std::move(write), done = std::move(done)] {
    apply(write);
    if (done) done();
  });
}

// The rules of the event log are checked with every write: dense, and no illegal or second-hand transition.
void SimulatedWorld::apply(const Write& write) {
  if (write.job) {
    const std::string& name = write.job->job().name();
    v1::JobState state = events[name].empty() ? v1::JOB_STATE_UNSPECIFIED : events[name].back().event.state();
    for (const StoredEvent& stored : write.events) {
      if (stored.event.seq() != static_cast<int64_t>(events[name].size()) + 1) {
        throw std::logic_error(name + ": event seq is not dense");
      }
      const v1::JobState to = stored.event.state();
      const bool legal = state == v1::JOB_STATE_UNSPECIFIED ? to == v1::JOB_STATE_QUEUED : may_follow(state, to);
      if (to != state && !legal) throw std::logic_error(name + ": illegal transition in the event log");
      if (is_terminal(state)) throw std::logic_error(name + ": an event after the end");
      state = to;
      events[name].push_back(stored);
      if (stored.checkpoint) checkpoints[name][stored.checkpoint->step()] = *stored.checkpoint;
      if (stored.checkpoint && stored.checkpoint->evaluations_size() > 0) {
        throw std::logic_error(name + ": evaluations are kept beside the checkpoint");
      }
      if (stored.evaluation) evaluations.push_back(*stored.evaluation);
    }
    if (write.job->job().state() != state) throw std::logic_error(name + ": projection and events differ");
    jobs[name] = *write.job;
  }
  if (write.attempt) attempts[write.attempt->job()][write.attempt->attempt().number()] = *write.attempt;
  if (write.request) requests[write.request->request_id()] = *write.request;
}

void SimulatedWorld::commit_checkpoint(CheckpointParts parts,
                                       std::function<void(absl::StatusOr<CommittedCheckpoint>)> done) {
  (hold_manifests ? held_ : pending_).push_back([this, done = std::move(done)] {
    if (!manifest_status.ok()) {
      done(manifest_status);
    } else {
      done(CommittedCheckpoint{.size_bytes = 10, .state_digest = "d"});
    }
  });
}

void SimulatedWorld::release_manifests() {
  hold_manifests = false;
  for (auto& task : std::exchange(held_, {})) pending_.push_back(std::move(task));
  settle();
}

void SimulatedWorld::remove_folders(std::vector<std::string> folders) {
  removed_folders.insert(removed_folders.end(), folders.begin(), folders.end());
}

int count(const std::vector<CoordinatorMessage>& messages, CoordinatorMessage::MessageCase kind) {
  int n = 0;
  for (const CoordinatorMessage& message : messages) n += message.message_case() == kind;
  return n;
}

RunningJob::RunningJob(SimulatedWorld& world, const std::string& id) : name(world.submit(id, 2)) {
  world.connect("a", 1);
  world.connect("b", 1);
  key = world.read_assign("a")->key();
  world.accept("a", key);
  world.accept("b", key);
  world.step("a", key, 1);
  world.read("a");
  world.read("b");
}

}  // namespace qwen3::coordinator::testing
