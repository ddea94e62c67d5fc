// Writes this rank's part of a checkpoint and reads any checkpoint back onto this rank's shards.
#pragma once
#include <cstdint>
#include <functional>
#include <future>
#include <string>

#include "checkpoint/manifest.h"
#include "parallel/fsdp/sharded_model.h"
#include "parallel/mesh.h"
#include "qwen3/internal/v1/rank.pb.h"
#include "spec/run_spec.h"

namespace qwen3::rank {

class Checkpointer {
 public:
  struct Place {
    std::string folder;  // of the job's checkpoints, absolute
    int32_t attempt = 1;
    std::string spec_json;
  };
  // `prepared` is called from the writing thread, also with the error of a part that could not be written. Everything
  // must outlive this.
  Checkpointer(const spec::RunSpec& run, const parallel::DeviceMesh& mesh, parallel::ShardedModel& model, Place place,
               std::function<void(const internal::v1::PreparedCheckpoint&)> prepared);
  ~Checkpointer();

  // Copies the shards, then writes and syncs them in the background (at once when the run says async = false).
  // Waits for the write before, so at most one copy exists. A failed write is reported through `prepared`, but for
  // the run's last checkpoint it is thrown by wait().
  void save(const checkpoint::RunState& state, bool last);
  // Returns when nothing is being written.
  void wait();

  // What a warm start may leave out; a restart takes everything.
  struct Wanted {
    bool training_state = true;  // moments, and the counts of routed tokens
    bool expert_bias = true;
  };
  // Shards and buffers from a committed checkpoint of any mesh. Throws std::runtime_error that names the folder and
  // what does not fit; UnreadableCheckpoint: it is damaged, gone, or its disk fails; StatusError: other failed reads.
  checkpoint::RunState restore(const std::string& folder, const Wanted& wanted);

 private:
  checkpoint::Manifest own_part(const checkpoint::RunState& state) const;
  bool writes_buffers() const;

  const spec::RunSpec& run_;
  const parallel::DeviceMesh& mesh_;
  parallel::ShardedModel& model_;
  Place place_;
  std::function<void(const internal::v1::PreparedCheckpoint&)> prepared_;
  std::future<void> writing_;
};

}  // namespace qwen3::rank
