// Every decision about jobs, tasks, attempts and workers. A task (an evaluation or a conversion) is a job that ends
// with a result instead of a checkpoint; controller_tasks.cc says what is different about it. Deterministic: all calls
// come from one thread with a steady `now`, everything it wants done goes through Effects, and what it remembers across
// a restart is in the store.
//
// Order of a change: memory first, then the store, then (once on disk) the daemons. A daemon keeps exits and prepared
// checkpoints until acknowledged, so nothing that was only in memory is missed after a restart.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/allocator.h"
#include "coordinator/effects.h"
#include "coordinator/first_cause.h"
#include "coordinator/leases.h"
#include "qwen3/v1/worker.pb.h"

namespace qwen3::coordinator {

struct ControllerOptions {
  Leases::Bounds leases;
  std::string checkpoint_root;  // absolute
  std::string probe_file;       // absolute, under checkpoint_root
  std::string probe_content;
  absl::Duration assign_window = absl::Seconds(30);   // from Assign until all daemons accepted
  absl::Duration evidence_window = absl::Seconds(1);  // from a victim's exit until the rest is aborted
  absl::Duration exit_window = absl::Seconds(5);      // from Abort until the attempt ends without the missing exits
  absl::Duration cancel_grace = absl::Seconds(10);    // from the word STOP until Abort
  absl::Duration final_checkpoint_window = absl::Seconds(60);  // from the last rank's exit until its checkpoint commits
};

// What a restart starts from.
struct StoredState {
  std::vector<internal::v1::StoredJob> jobs;                                 // all of them
  std::map<std::string, std::vector<internal::v1::StoredAttempt>> attempts;  // of jobs that are not terminal
  std::map<std::string, std::vector<v1::Checkpoint>> checkpoints;            // the same jobs, COMMITTED only
  std::vector<internal::v1::StoredRequest> requests;
};

// An accepted submission: checked, defaults filled in.
struct NewJob {
  internal::v1::StoredJob stored;  // job.name and job.spec, job.plan, job.warnings, folders
  std::string request_id;          // empty: not idempotent
  std::string digest;              // of the request
};

struct CreatedJob {
  std::string name;
  bool replayed = false;  // the request_id was known
};

// What users see of a job beyond its stored row.
struct LiveView {
  v1::Progress progress;
  internal::v1::TaskProgress task;  // of a task
  std::string pending_reason;
  std::string status_message;
};

// For metrics.
struct Counts {
  std::map<v1::JobState, int64_t> jobs;
  std::map<v1::JobState, int64_t> operations;
  std::map<v1::WorkerState, int64_t> workers;
  int64_t slots = 0;
  int64_t free_slots = 0;
};

// Whether "auto" precision is bfloat16 on this worker: a GPU, or a CPU with instructions for it.
bool computes_bfloat16(const internal::v1::Hello& hello);

class Controller {
 public:
  Controller(ControllerOptions options, Effects& effects, absl::Time now);

  void load(const StoredState& state, absl::Time now);

  // Requests. `done` comes once the answer is on disk. ALREADY_EXISTS: the name, or the request_id with another digest.
  // The answer to a request_id that is known already; nothing: it is new.
  std::optional<absl::StatusOr<CreatedJob>> replay(const std::string& request_id, const std::string& digest) const;
  void create(NewJob job, absl::Time now, std::function<void(absl::StatusOr<CreatedJob>)> done);
  // OK: it ends or has ended CANCELLED. FAILED_PRECONDITION: it ended, or is ending, otherwise.
  void cancel(const std::string& job, absl::Time now, std::function<void(absl::Status)> done);

  // Tells the ranks to record their next steps; the answer says where. A request_id (empty: not idempotent) that the
  // attempt knows gets the first answer, with other steps ALREADY_EXISTS. NOT_FOUND; FAILED_PRECONDITION unless the job
  // is RUNNING.
  void trace(const std::string& job, int64_t steps, const std::string& request_id, absl::Time now,
             std::function<void(absl::StatusOr<v1::TraceJobResponse>)> done);

  // The daemons' sessions; `session` is a number that is never used again.
  void on_message(int64_t session, const internal::v1::WorkerMessage& message, absl::Time now);
  void on_closed(int64_t session, absl::Time now);
  // Reports that are on disk, each once.
  void on_metrics(const std::string& job, const std::vector<v1::MetricRecord>& records, absl::Time now);
  // A committed checkpoint that a scan found without its event.
  void on_found_checkpoint(const v1::Checkpoint& checkpoint, const std::string& job, absl::Time now);
  // Often, a few times a second.
  void tick(absl::Time now);

  // Views.
  std::vector<v1::Worker> workers() const;  // by name
  std::optional<LiveView> live(const std::string& job) const;
  // Where a job of `ranks` would run now; the error says why it would wait.
  absl::StatusOr<std::vector<Place>> plan_placement(int64_t ranks) const;
  bool all_workers_have_fast_bfloat16() const;  // of those connected; false if none is
  Counts counts() const;

 private:
  struct WorkerRun {
    internal::v1::Hello hello;
    int64_t session = 0;  // 0: not connected
    bool lost = false;
    absl::Time connect_time;
    int32_t faults = 0;                            // in a row; see rest_after()
    std::string fault;                             // the last one
    absl::Time rest_until = absl::InfinitePast();  // it is given no ranks before
  };
  struct AttemptRun {
    internal::v1::StoredAttempt stored;
    std::map<std::string, std::vector<internal::v1::RankSlot>> parts;  // by worker id
    std::set<std::string> accepted;                                    // worker ids
    std::set<std::string> lost_workers;                                // worker ids
    std::map<int32_t, internal::v1::RankExit> exits;                   // by rank
    std::vector<Evidence> evidence;                                    // in order of arrival
    std::optional<v1::Failure> failure;                                // decided without evidence of ranks
    std::map<int64_t, std::map<int32_t, internal::v1::PreparedCheckpoint>> prepared;  // by step, rank
    std::set<int64_t> given_up;  // steps of which a rank could not write its part
    bool aborted = false;
    bool declined = false;  // by a worker; nothing else failed
    bool committed_any = false;
    absl::Time assign_deadline = absl::InfiniteFuture();
    absl::Time abort_at = absl::InfiniteFuture();
    absl::Time end_at = absl::InfiniteFuture();
  };
  struct JobRun {
    internal::v1::StoredJob stored;
    std::optional<AttemptRun> attempt;
    std::vector<Place> previous;                   // places of the attempt before, by rank
    std::map<int64_t, v1::Checkpoint> committed;   // by step
    bool committing = false;                       // a manifest is being written; the attempt does not end meanwhile
    int64_t doubted_step = 0;                      // whose checkpoint the last attempt could not read; 0: none
    absl::Time not_before = absl::InfinitePast();  // of the next attempt; a restart forgets it
    std::string pending_reason;
    std::string pending_message;
  };
  // An event that save() numbers and dates.
  struct Draft {
    std::string kind;
    std::string message;
    std::optional<v1::Checkpoint> checkpoint;
    v1::JobState state;
    std::optional<StoredEvaluation> evaluation = std::nullopt;
  };

  // controller.cc
  JobRun* find(const std::string& job);
  const JobRun* find(const std::string& job) const;
  void move(JobRun& job, v1::JobState to, const std::string& message, std::vector<Draft>& drafts);
  void note(JobRun& job, const std::string& kind, const std::string& message, std::vector<Draft>& drafts,
            std::optional<v1::Checkpoint> checkpoint = std::nullopt);
  void save(JobRun& job, std::vector<Draft> drafts, absl::Time now, std::function<void()> done = nullptr);
  void forget_if_terminal(const std::string& job);
  void succeed(JobRun& job, absl::Time now);
  void finish(JobRun& job, std::vector<Draft> drafts, absl::Time now, std::function<void()> done = nullptr);

  // controller_queue.cc
  void schedule(absl::Time now);
  void blame(const std::string& worker, bool declined, const std::string& error, absl::Time now);
  std::string resting_workers(absl::Time now) const;
  std::vector<WorkerSlots> free_slots(absl::Time now) const;
  std::map<std::pair<std::string, int32_t>, std::pair<std::string, int32_t>> used_slots() const;

  // controller_attempts.cc
  void start_attempt(JobRun& job, const std::vector<Place>& places, absl::Time now);
  std::string auto_precision(const JobRun& job) const;
  void assign(const JobRun& job, const std::string& worker);
  void mark_accepted(JobRun& job, const std::string& worker, absl::Time now);
  void mark_stepping(JobRun& job, int64_t step, absl::Time now);
  void mark_working(JobRun& job, const std::string& what, absl::Time now);
  void lose_worker_of(JobRun& job, const std::string& worker, const std::string& how, absl::Time now);
  void begin_failure(JobRun& job, bool cause_known, absl::Time now);
  void abort(JobRun& job, const std::string& reason, absl::Time now);
  void stop_ranks(JobRun& job, bool at_a_step, absl::Time now);
  bool all_gone(const AttemptRun& attempt) const;
  bool all_finished(const AttemptRun& attempt) const;
  void end_if_over(JobRun& job, absl::Time now);
  void end_attempt(JobRun& job, absl::Time now);
  std::function<void()> close_attempt(JobRun& job, absl::Time now);
  int64_t world_size(const JobRun& job) const;

  // controller_checkpoints.cc
  void on_prepared(JobRun& job, const std::string& worker, const internal::v1::Prepared& prepared, absl::Time now);
  void commit_next(JobRun& job, absl::Time now);
  void on_commit_done(const std::string& job, v1::Checkpoint checkpoint,
                      const absl::StatusOr<CommittedCheckpoint>& result);
  void record_checkpoint(JobRun& job, v1::Checkpoint checkpoint, absl::Time now, std::function<void()> done);
  void give_up_checkpoint(JobRun& job, int64_t step, absl::Time now);
  void tell_committed(const std::string& worker, const internal::v1::AttemptKey& key, int64_t step);
  void acknowledge_part(const std::string& worker, const internal::v1::AttemptKey& key, int32_t rank, int64_t step);
  void acknowledge_parts(const JobRun& job, int64_t step);
  bool doubt_checkpoint(JobRun& job, int64_t step, std::vector<Draft>& drafts);
  void prune(JobRun& job, absl::Time now);
  absl::Status check_source(const std::string& folder) const;

  // controller_tasks.cc
  void fill_task(const JobRun& job, internal::v1::RankAssignment& rank) const;
  void mark_task_progress(JobRun& job, const internal::v1::TaskProgress& progress, absl::Time now);
  void succeed_task(JobRun& job, absl::Time now);
  void attach_evaluation(const StoredEvaluation& stored, absl::Time now);
  void release_source(const internal::v1::StoredTask& task, absl::Time now);

  // controller_trace.cc
  void tell_traces_again(const std::string& worker, const internal::v1::StoredAttempt& attempt);

  // controller_workers.cc
  void on_hello(int64_t session, const internal::v1::Hello& hello, absl::Time now);
  void reattach(const std::string& worker, const internal::v1::Hello& hello, absl::Time now);
  void on_beat(const std::string& worker, const internal::v1::Beat& beat, absl::Time now);
  void on_declined(JobRun& job, const std::string& worker, const std::string& error, absl::Time now);
  void on_exit(const std::string& worker, const internal::v1::RankExit& exit, absl::Time now);
  void on_store_ready(const internal::v1::StoreReady& ready, JobRun& job, absl::Time now);
  void refuse_stale(const std::string& worker, const internal::v1::AttemptKey& key, const std::string& what);
  JobRun* living(const internal::v1::AttemptKey& key);
  JobRun* current(const std::string& worker, const internal::v1::AttemptKey& key);
  bool places_rank(const JobRun& job, const std::string& worker, int32_t rank);
  void send_to(const std::string& worker, const internal::v1::CoordinatorMessage& message);
  void send_to_all(const AttemptRun& attempt, const internal::v1::CoordinatorMessage& message);

  ControllerOptions options_;
  Effects& effects_;
  Leases leases_;
  absl::Time now_;                                    // of the call being served; used by what comes back from Effects
  std::map<int64_t, JobRun> jobs_;                    // not terminal, by number: the queue's order
  std::unordered_map<std::string, int64_t> numbers_;  // of jobs_
  std::unordered_map<std::string, v1::JobState> ended_;  // terminal jobs
  std::unordered_map<std::string, internal::v1::StoredRequest> requests_;
  std::map<std::string, WorkerRun> workers_;  // by id
  std::map<int64_t, std::string> sessions_;   // admitted or greeted: session -> worker id
  int64_t next_number_ = 1;
  absl::Time schedule_at_ = absl::InfiniteFuture();  // when a job or a worker has waited long enough
};

internal::v1::AttemptKey key_of(const internal::v1::StoredAttempt& attempt);
// What the attempt's daemons are told: where its ranks meet; that rank 0 is to stop at its next step.
internal::v1::CoordinatorMessage store_address_of(const internal::v1::StoredAttempt& attempt);
internal::v1::CoordinatorMessage stop_of(const internal::v1::StoredAttempt& attempt);
google::protobuf::Timestamp to_timestamp(absl::Time time);
absl::Status with_reason(absl::Status status, const std::string& reason);

}  // namespace qwen3::coordinator
