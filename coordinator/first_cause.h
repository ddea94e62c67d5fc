// Why an attempt failed: of everything that is known of its ranks, what came first. Pure.
#pragma once
#include <vector>

#include "qwen3/internal/v1/session.pb.h"

namespace qwen3::coordinator {

// What ended one rank, or one worker.
struct Evidence {
  internal::v1::RankExit exit;  // of a rank; ignored when worker_lost
  std::string worker;           // "workers/ID" it ran on
  bool worker_lost = false;     // the lease of the worker expired, or its daemon came back without its ranks
  std::string message;          // for worker_lost: how
};

// Whether it can be a first cause: not a victim of a lost peer, not killed by us, not a finished rank.
bool is_cause(const Evidence& evidence);

// One failure with its class, reason and a sentence. Order of blame: a kernel OOM kill, a lost worker, a signal, what
// the rank said itself, a silent exit, a victim of a lost peer. Within one kind the first in `evidence` (the order of
// arrival). `step` is the last one the attempt reported. REQUIRES: evidence is not empty.
v1::Failure first_cause(const std::vector<Evidence>& evidence, int64_t step);

}  // namespace qwen3::coordinator
