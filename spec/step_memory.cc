// Walks through a step as ShardedModel (parallel/fsdp/sharded_model.cc) and FsdpUnit do, and notes at every moment that
// can be the fullest what there is.
#include <algorithm>
#include <array>
#include <bit>
#include <set>
#include <utility>
#include <vector>

#include "spec/activation_checkpoint.h"
#include "spec/estimate.h"
#include "spec/units.h"

namespace qwen3::spec {
namespace {

// Where in its block a parameter is used: a place in block_results.
size_t segment_of(const ModelShape& model, const std::string& name) {
  const auto is = [&](auto... part) { return ((name.find(part) != std::string::npos) || ...); };
  if (model.experts > 0) {
    if (is("experts.w2")) return 6;
    if (is("experts.")) return 5;
    if (is("router", "ffn_norm")) return 3;
  }
  if (is("feed_forward.w2")) return 4;
  if (is("feed_forward", "ffn_norm")) return 3;
  return is("attention.wo") ? 2 : 0;
}

class StepMemory {
 public:
  explicit StepMemory(const RunSpec& run)
      : run_(run),
        element_(compute_bytes(run)),
        state_(state_bytes(run)),
        travel_(travel_bytes(run)),
        replicas_(degree_of(run.mesh, LayoutAxis::kReplicate)),
        last_layer_(run.model.layers + 1),
        cost_(run) {
    const std::vector<UnitSize> sizes = unit_sizes(run);
    for (const UnitSize& size : sizes) {
      Unit unit{.layer = size.layer,
                .is_sharded = size.ranks > 1,
                .gathered = element_ * size.ranks * size.shard(),
                .whole = element_ * size.whole(),
                .leaves = element_ * size.gradients(),
                .exchange = travel_ * size.ranks * size.exchanged(),
                .summed = state_ * size.ranks * size.exchanged(),
                .shard_sum = state_ * size.exchanged(),
                .replica = travel_ * size.exchanged()};
      const bool shares_accumulators = !run.ordered && !unit.is_sharded && replicas_ == 1;
      unit.sum = unit.is_sharded && run.reduce_once ? state_ * size.gradients()
                 : shares_accumulators              ? state_ * size.shard()
                                                    : unit.shard_sum;
      if (size.layer > 0 && size.layer < last_layer_) {
        unit.leaves_by_segment.resize(block_results(run.model).size());
        for (const TensorSize& tensor : size.tensors) {
          unit.leaves_by_segment[segment_of(run.model, tensor.name)] += element_ * tensor.uses * tensor.piece;
        }
      }
      units_.push_back(std::move(unit));
      shards_ += size.shard() * (state_ + (element_ == state_ ? 0 : element_));
      moments_ += 2 * state_ * size.shard();
    }
    table_ = element_ * sizes.front().tensors.front().piece;
    norm_ = element_ * run.model.dim;
    const int64_t tp = degree_of(run.mesh, LayoutAxis::kTp);
    tokens_ = run.data.local_batch_size * run.data.seq_len;
    tokens_here_ = run.sequence_parallel ? tokens_ / tp : tokens_;
  }

  BytesPerRank fullest() {
    const int64_t microbatches = run_.microbatches_per_rank;
    // Sums are fullest before or after one of these.
    for (const int64_t k : std::set<int64_t>{0, 1, microbatches - 2, microbatches - 1}) {
      if (k >= 0 && k < microbatches) microbatch(k);
    }
    finish_step();
    if (run_.checkpoint.enable) fullest_.checkpoint_copy = moments_ / 2 * 3;
    return fullest_;
  }

 private:
  struct Unit {
    int64_t layer;
    bool is_sharded;
    int64_t gathered;   // bytes of the slots of all ranks
    int64_t whole;      // of what they are put together to
    int64_t leaves;     // of the gradients that backward leaves
    int64_t exchange;   // sent, and as many received
    int64_t summed;     // received, in the state's dtype
    int64_t shard_sum;  // the sum of a shard
    int64_t replica;    // sent to the replicas, and as many received; then a part is added and goes back to them all
    int64_t sum = 0;    // one partial sum over microbatches
    std::vector<int64_t> leaves_by_segment = {};

    bool is_whole = false, is_gathering = false, is_exchanging = false, is_last = false, is_adding = false;
    int64_t sums = 0;
    int64_t replicas = 0;
  };

  std::vector<Unit*> units_of(int64_t layer) {
    if (run_.model.tied && layer == last_layer_) layer = 0;
    std::vector<Unit*> units;
    for (Unit& unit : units_) {
      if (unit.layer == layer) units.push_back(&unit);
    }
    return units;
  }

  // There is now what the members say, and these activations and gradients beside it.
  void note(int64_t activations, int64_t gradients = 0) {
    BytesPerRank now{.parameters = shards_, .gradients = leaves_ + gradients, .moments = moments_};
    now.activations = activations_ + activations;
    for (const Unit& unit : units_) {
      if (unit.is_gathering) now.parameters += unit.gathered;
      if (unit.is_whole && unit.is_sharded) now.parameters += unit.whole;
      now.gradients += unit.sums + unit.replicas + (unit.is_exchanging ? 2 * unit.exchange : 0);
    }
    if (now.peak() > fullest_.peak()) fullest_ = now;
  }

  void start_gather(int64_t layer) {
    for (Unit* unit : units_of(layer)) unit->is_gathering = unit->is_sharded && !unit->is_whole;
  }
  void gather(int64_t layer) {
    start_gather(layer);
    for (Unit* unit : units_of(layer)) {
      unit->is_whole = true;
      note(0);
      unit->is_gathering = false;
    }
  }
  void release(Unit& unit) {
    if (run_.reshard_after_forward) unit.is_whole = false;
  }

  int64_t sums_after(int64_t microbatches) const {
    return run_.ordered ? std::popcount(static_cast<uint64_t>(microbatches)) : std::min<int64_t>(1, microbatches);
  }

  void advance_reductions(std::vector<Unit*> begun, int64_t k) {
    for (Unit* unit : begun) release(*unit);
    auto& [exchanging, adding, gathering] = reducing_;
    for (Unit* unit : gathering) unit->replicas = std::min(unit->replicas, unit->shard_sum);  // all have the parts
    for (Unit* unit : adding) advance_replicas(*unit);
    for (Unit* unit : exchanging) settle(*unit, k);
    for (Unit* unit : begun) reduce(*unit, k);
    gathering = std::move(adding);
    adding = std::move(exchanging);
    exchanging = std::move(begun);
  }

  void reduce(Unit& unit, int64_t k) {
    const bool last = k + 1 == run_.microbatches_per_rank;
    unit.is_last = last;
    if (!unit.is_sharded || run_.reduce_once) {
      leaves_ -= unit.leaves;
      note(0, unit.sum);
      unit.sums = sums_after(k + 1) * unit.sum;
      if (!unit.is_sharded || !last) return;
      note(0, unit.exchange);
      unit.sums = 0;
    } else {
      note(0, unit.exchange);
      leaves_ -= unit.leaves;
    }
    unit.is_exchanging = true;
    note(0);
  }

  void settle(Unit& unit, int64_t k) {
    if (unit.is_exchanging) {
      unit.is_exchanging = false;  // what was sent is gone; what was received goes when it is added
      note(0, unit.exchange + (travel_ == state_ ? 0 : unit.summed) + unit.shard_sum);
      unit.sums = run_.reduce_once ? unit.shard_sum : sums_after(k + 1) * unit.sum;
    }
    if (std::exchange(unit.is_last, false) && replicas_ > 1) {
      note(0, unit.replica);
      unit.sums = 0;
      unit.replicas = 2 * unit.replica;
      unit.is_adding = true;
      note(0);
    }
  }

  void advance_replicas(Unit& unit) {
    if (!std::exchange(unit.is_adding, false)) return;
    const int64_t part = unit.shard_sum / replicas_;
    unit.replicas = unit.replica;  // what was sent is gone
    note(0, travel_ == state_ ? 0 : unit.shard_sum);
    unit.replicas = part + unit.shard_sum;
    note(0, unit.replica);
  }

  void finish_step() {
    for (auto unit = units_.rbegin(); unit != units_.rend(); ++unit) advance_replicas(*unit);
  }

  void microbatch(int64_t k) {
    for (Unit& unit : units_) unit.sums = sums_after(k) * unit.sum;
    const int64_t piece = tokens_here_ * run_.model.dim * element_, whole = tokens_ * run_.model.dim * element_;
    const std::vector<KeptResults> kept = kept_results(run_);

    // The rotation's angles, and the mask of documents.
    activations_ = tokens_ * run_.model.head_dim * state_ + tokens_ * run_.data.seq_len * element_;
    for (int64_t layer = 0; layer < last_layer_; ++layer) {
      gather(layer);
      start_gather(layer + 1);
      if (layer > 0) activations_ += cost_.kept_bytes(kept[static_cast<size_t>(layer) - 1]);
      note(piece);
      const bool used_next = layer + 1 == last_layer_;
      if (!used_next && (layer > 0 || !run_.model.tied)) {
        for (Unit* unit : units_of(layer)) release(*unit);
      }
    }
    gather(last_layer_);
    activations_ += piece;  // the last block's output
    loss(piece, whole);
    leaves_ += norm_;
    note(whole + piece);
    if (!run_.model.tied) reduce_with(piece, last_layer_, k);
    activations_ -= piece;

    for (int64_t layer = last_layer_ - 1; layer > 0; --layer) {
      const KeptResults& results = kept[static_cast<size_t>(layer) - 1];
      gather_with(piece, layer);
      if (layer > 1) start_gather(layer - 1);
      activations_ -= cost_.kept_bytes(results);
      const std::vector<int64_t> bytes = cost_.backward_bytes(results);
      for (size_t segment = bytes.size(); segment-- > 0;) {
        for (const Unit* unit : units_of(layer)) leaves_ += unit->leaves_by_segment[segment];
        note(bytes[segment]);
      }
      reduce_with(piece, layer, k);
    }

    leaves_ += table_;
    note(2 * whole);
    reduce_with(0, 0, k);
    for (Unit* unit : reducing_[0]) settle(*unit, k);
  }

  // While the gradient of the layer's input or output is there.
  void gather_with(int64_t gradient, int64_t layer) {
    activations_ += gradient;
    gather(layer);
    activations_ -= gradient;
  }
  void reduce_with(int64_t gradient, int64_t layer, int64_t k) {
    activations_ += gradient;
    advance_reductions(units_of(layer), k);
    activations_ -= gradient;
  }

  // model/loss.h: normed rows and the gradient of them all, a chunk's logits, and the head's gradient.
  void loss(int64_t piece, int64_t whole) {
    const int64_t chunk = std::min(tokens_, head_chunk_tokens(run_.model.vocab));
    const int64_t tp = degree_of(run_.mesh, LayoutAxis::kTp);
    const int64_t columns = (run_.model.vocab + tp - 1) / tp;
    const int64_t rows = 2 * whole + (tp > 1 && run_.sequence_parallel ? piece : 0);
    const int64_t logits = chunk * columns * element_;
    // In the wide dtype, where that is another, and their logarithms or exponentials.
    const int64_t wide = state_ * (element_ == state_ ? 1 : 2);
    const bool gathers = tp > 1 && !run_.loss_parallel;
    const int64_t entropy = gathers ? chunk * run_.model.vocab * (element_ + wide) : chunk * columns * wide;
    const bool sums = chunk < tokens_ && element_ != state_;  // of chunks, in the wide dtype
    const int64_t sum = sums ? table_ / element_ * state_ : chunk < tokens_ ? table_ : 0;
    note(rows + logits + entropy, sum);
    note(rows + logits, table_ + (sums ? sum : 0));
    leaves_ += table_;
  }

  const RunSpec& run_;
  const int64_t element_, state_, travel_, replicas_;
  const int64_t last_layer_;
  const BlockCost cost_;
  std::vector<Unit> units_;
  int64_t shards_ = 0, moments_ = 0;
  int64_t table_ = 0;  // the embedding's gradient on this rank, and the head's
  int64_t norm_ = 0;   // the last norm's
  int64_t tokens_ = 0, tokens_here_ = 0;

  std::array<std::vector<Unit*>, 3> reducing_;  // by stage, as ShardedModel's
  int64_t activations_ = 0;
  int64_t leaves_ = 0;  // gradients that backward left and nobody took yet
  BytesPerRank fullest_;
};

}  // namespace

BytesPerRank estimate_bytes_per_rank(const RunSpec& run) { return StepMemory(run).fullest(); }

}  // namespace qwen3::spec
