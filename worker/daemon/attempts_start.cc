// The part of Attempts that takes an assignment and starts its ranks.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include "absl/strings/str_cat.h"
#include "worker/daemon/attempts.h"
#include "worker/daemon/host.h"
#include "worker/daemon/rank_environment.h"

namespace qwen3::worker {

using internal::v1::Assign;
using internal::v1::DaemonToRank;
using internal::v1::RankAssignment;
using internal::v1::RankToDaemon;
using internal::v1::WorkerMessage;

namespace {

constexpr int32_t kNoSlot = -1;  // RankSlot.slot of a conversion

}  // namespace

void Attempts::assign(const Assign& assign) {
  const AttemptId id = id_of(assign.key());
  if (find(id) != nullptr) return reply(id, absl::OkStatus());  // said before, the answer was lost
  const bool waits =
      std::any_of(waiting_.begin(), waiting_.end(), [&](const Assign& other) { return id_of(other.key()) == id; });
  if (waits) return;
  if (const absl::Status status = check(assign); !status.ok()) return reply(id, status);
  if (slots_are_leaving(assign)) {
    waiting_.push_back(assign);
    return;
  }
  reply(id, start_ranks(assign));
}

absl::Status Attempts::check(const Assign& assign) const {
  const AttemptId id = id_of(assign.key());
  if (assign.ranks().empty()) return absl::InvalidArgumentError(absl::StrCat(to_string(id), ": no ranks to start"));
  std::set<int32_t> slots, ranks;
  for (const auto& item : assign.ranks()) {
    if (assign.assignment().has_conversion() && item.slot() == kNoSlot) continue;
    if (item.slot() < 0 || item.slot() >= options_.slots) {
      return absl::InvalidArgumentError(absl::StrCat(to_string(id), ": rank ", item.rank(), " is for slot ",
                                                     item.slot(), ", but this worker has slots 0 to ",
                                                     options_.slots - 1));
    }
    if (!slots.insert(item.slot()).second || !ranks.insert(item.rank()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(to_string(id), ": rank ", item.rank(), " or slot ", item.slot(), " is named twice"));
    }
  }
  for (const auto& [other, attempt] : attempts_) {
    if (other.job == id.job && other.epoch > id.epoch) {
      return absl::FailedPreconditionError(absl::StrCat(to_string(id), ": epoch ", other.epoch, " runs here"));
    }
    for (const auto& [rank, state] : attempt.ranks) {
      if (state.process && !state.killed && slots.count(state.slot) != 0) {
        return absl::FailedPreconditionError(
            absl::StrCat(to_string(id), ": slot ", state.slot, " is held by rank ", rank, " of ", to_string(other)));
      }
    }
  }
  return absl::OkStatus();
}

bool Attempts::slots_are_leaving(const Assign& assign) const {
  for (const auto& [id, attempt] : attempts_) {
    for (const auto& [rank, state] : attempt.ranks) {
      for (const auto& item : assign.ranks()) {
        if (state.process && state.slot == item.slot() && item.slot() != kNoSlot) return true;
      }
    }
  }
  return false;
}

absl::Status Attempts::start_ranks(const Assign& assign) {
  const AttemptId id = id_of(assign.key());
  Attempt& attempt = attempts_[id];
  for (const auto& item : assign.ranks()) {
    RankAssignment assignment = assign.assignment();
    assignment.set_job(id.job);
    assignment.set_attempt(id.attempt);
    assignment.set_epoch(id.epoch);
    assignment.set_rank(item.rank());
    assignment.set_slot(item.slot());
    assignment.set_advertise_address(options_.advertise_address);
    assignment.set_advertise_interface(options_.advertise_interface);
    if (const absl::Status status = start_rank(id, attempt, assignment); !status.ok()) {
      attempts_.erase(id);  // kills those that were started
      spool_.close(id);
      return status;
    }
  }
  spdlog::info("{}: {} ranks started", to_string(id), assign.ranks_size());
  return absl::OkStatus();
}

absl::Status Attempts::start_rank(const AttemptId& id, Attempt& attempt, const RankAssignment& assignment) {
  const int32_t number = assignment.rank();
  const Command command{
      .binary = options_.rank_binary,
      .arguments = {"--control-fd", "3"},
      .environment =
          rank_environment(assignment, options_, host_cores(), [](const char* name) { return getenv(name); }),
  };
  oom_.increased();  // what the kernel killed before is not this rank
  auto process =
      RankProcess::start(command, {.on_message =
                                       [this, id, number](RankToDaemon message) {
                                         loop_->post([this, id, number, message = std::move(message)]() mutable {
                                           on_rank_message(id, number, std::move(message));
                                         });
                                       },
                                   .on_output =
                                       [this, id, number](std::vector<LogLine> lines) {
                                         loop_->post([this, id, number, lines = std::move(lines)]() mutable {
                                           on_rank_output(id, number, std::move(lines));
                                         });
                                       },
                                   .on_exit =
                                       [this, id, number](ExitStatus status) {
                                         loop_->post([this, id, number, status] { on_rank_exit(id, number, status); });
                                       }});
  if (!process.ok()) return process.status();
  Rank& rank = attempt.ranks[number];
  rank.slot = assignment.slot();
  rank.process = *std::move(process);
  *rank.exit.mutable_key() = key_of(id);
  rank.exit.set_rank(number);
  DaemonToRank message;
  *message.mutable_assignment() = assignment;
  tell(id, number, message);
  return absl::OkStatus();
}

void Attempts::start_waiting() {
  for (Assign& assign : std::exchange(waiting_, {})) this->assign(assign);
}

void Attempts::reply(const AttemptId& id, const absl::Status& status) {
  if (!status.ok()) spdlog::warn("assignment refused: {}", std::string(status.message()));
  WorkerMessage message;
  auto* answer = message.mutable_assign_reply();
  *answer->mutable_key() = key_of(id);
  answer->set_accepted(status.ok());
  answer->set_message(std::string(status.message()));
  outlet_.send(std::move(message));
}

}  // namespace qwen3::worker
