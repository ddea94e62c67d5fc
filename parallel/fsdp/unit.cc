#include "parallel/fsdp/unit.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <bit>

#include "spec/units.h"

namespace qwen3::parallel {
namespace {

// The part of the piece that the rank at `index` of the shard axis keeps, in the piece's own indices.
spec::RowRange shard_of(const ShardedTensor& tensor, int64_t degree, int64_t index) {
  return spec::shard_rows(tensor.piece.shape[static_cast<size_t>(tensor.layout.shard.dim)], degree, index);
}

// For each rank's shard that is not empty: call(part of `piece`, slot of that rank, as long and in the same shape).
template <typename Call>
void for_each_shard(const at::Tensor& piece, const at::Tensor& slots, const ShardedTensor& tensor, Call&& call) {
  const int64_t degree = slots.size(0);
  for (int64_t r = 0; r < degree; ++r) {
    const spec::RowRange range = shard_of(tensor, degree, r);
    const at::Tensor part = piece.narrow(tensor.layout.shard.dim, range.begin, range.size());
    call(part, slots[r].narrow(0, 0, part.numel()).view(part.sizes()),
         slots[r].narrow(0, part.numel(), slots.size(1) - part.numel()));
  }
}

// Copies a piece into slots [degree, slot] by rank, converting the dtype. Padding becomes zeros.
void scatter(const at::Tensor& piece, const at::Tensor& slots, const ShardedTensor& tensor) {
  for_each_shard(piece, slots, tensor, [](const at::Tensor& part, const at::Tensor& slot, const at::Tensor& padding) {
    slot.copy_(part);
    padding.zero_();
  });
}

// The inverse.
void collect(const at::Tensor& slots, const at::Tensor& piece, const ShardedTensor& tensor) {
  for_each_shard(piece, slots, tensor,
                 [](const at::Tensor& part, const at::Tensor& slot, const at::Tensor&) { part.copy_(slot); });
}

const MeshAxis& shard_axis(const std::vector<model::Parameter*>& parameters, const DeviceMesh& mesh) {
  const model::Parameter& first = *parameters.front();
  const spec::Layout layout = spec::layout_of(first.tensor, first.shape, mesh.shape());
  return layout.shard.axis == spec::LayoutAxis::kEfsdp ? mesh.efsdp() : mesh.axis(spec::Axis::kDpShard);
}

}  // namespace

FsdpUnit::FsdpUnit(std::vector<model::Parameter*> parameters, const DeviceMesh& mesh, const UnitOptions& options)
    : shard_(shard_axis(parameters, mesh)), replicate_(mesh.axis(spec::Axis::kDpReplicate)), options_(options) {
  c10::NoGradGuard no_grad;
  for (model::Parameter* parameter : parameters) {
    auto known = std::find_if(tensors_.begin(), tensors_.end(),
                              [&](const ShardedTensor& tensor) { return tensor.name == parameter->tensor; });
    if (known == tensors_.end()) {
      ShardedTensor tensor;
      tensor.name = parameter->tensor;
      tensor.layout = spec::layout_of(tensor.name, parameter->shape, mesh.shape(), options_.sequence_parallel);
      tensor.piece = spec::piece_of(tensor.layout, mesh.shape(), mesh.rank());
      tensor.box = spec::box_of(tensor.layout, mesh.shape(), mesh.rank());
      tensor.owned = spec::owns(tensor.layout, mesh.shape(), mesh.rank());
      tensors_.push_back(std::move(tensor));
      known = std::prev(tensors_.end());
    }
    known->uses.push_back(parameter);
  }

  const auto slot_of = [&](const ShardedTensor& tensor) {
    return spec::slot_size(tensor.layout, mesh.shape(), mesh.rank());
  };
  for (const ShardedTensor& tensor : tensors_) shard_numel_ += slot_of(tensor);
  const auto state = at::TensorOptions().dtype(options_.state_dtype).device(mesh.device());
  master_ = at::zeros({shard_numel_}, state);
  int64_t offset = 0;
  for (ShardedTensor& tensor : tensors_) {
    const int64_t slot = slot_of(tensor);
    tensor.master = master_.narrow(0, offset, slot);
    if (options_.moments) {
      tensor.exp_avg = at::zeros({slot}, state);
      tensor.exp_avg_sq = at::zeros({slot}, state);
    }
    offset += slot;
  }

  const bool same_dtype = options_.compute_dtype == options_.state_dtype;
  compute_shard_ = same_dtype ? master_ : at::empty({shard_numel_}, state.dtype(options_.compute_dtype));
  if (whole_on_this_rank()) {
    whole_ = compute_shard_;  // slots are whole tensors then
  } else {
    int64_t whole_numel = 0;
    for (const ShardedTensor& tensor : tensors_) whole_numel += spec::padded(tensor.piece.numel());
    whole_ = at::empty({whole_numel}, state.dtype(options_.compute_dtype));
  }
  offset = 0;
  for (ShardedTensor& tensor : tensors_) {
    const int64_t numel = tensor.piece.numel();
    for (model::Parameter* use : tensor.uses) {
      use->weight = whole_.narrow(0, offset, numel).view(tensor.piece.shape).detach().requires_grad_(true);
      uses_.push_back({&tensor, use, OrderedSum(options_.ordered)});
    }
    offset += spec::padded(numel);
  }
  if (!whole_on_this_rank()) {
    is_whole_ = true;
    const bool reshard = std::exchange(options_.reshard_after_forward, true);
    release();
    options_.reshard_after_forward = reshard;
  }
}

void FsdpUnit::start_gather() {
  if (is_whole_ || gathered_.defined()) return;
  c10::NoGradGuard no_grad;
  if (whole_on_this_rank()) {
    if (!compute_shard_.is_same(master_)) compute_shard_.copy_(master_);
    is_whole_ = true;
    return;
  }
  gathered_ = at::empty({shard_.size(), shard_numel_}, compute_shard_.options());
  gather_ = start_all_gather(gathered_, compute_shard_, shard_);
}

void FsdpUnit::gather() {
  if (is_whole_) return;
  start_gather();
  if (std::exchange(is_whole_, true)) return;
  c10::NoGradGuard no_grad;
  gather_.wait();
  c10::StorageImpl* storage = whole_.storage().unsafeGetStorageImpl();
  const size_t bytes = static_cast<size_t>(whole_.numel()) * whole_.element_size();
  storage->set_data_ptr_noswap(storage->allocator()->allocate(bytes));
  storage->set_nbytes(bytes);
  // A tensor of its own over the same memory: filling it must not move the leaves' version counters, since graphs that
  // saved the weights are alive.
  const at::Tensor raw = at::from_blob(storage->mutable_data(), {whole_.numel()}, whole_.options());
  int64_t from = 0, to = 0;
  for (const ShardedTensor& tensor : tensors_) {
    const int64_t slot = tensor.master.numel(), numel = tensor.piece.numel();
    collect(gathered_.narrow(1, from, slot), raw.narrow(0, to, numel).view(tensor.piece.shape), tensor);
    from += slot;
    to += spec::padded(numel);
  }
  gathered_.reset();
}

void FsdpUnit::release() {
  if (!is_whole_ || whole_on_this_rank() || !options_.reshard_after_forward) return;
  c10::StorageImpl* storage = whole_.storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(c10::DataPtr(nullptr, whole_.device()));
  storage->set_nbytes(0);
  is_whole_ = false;
}

void FsdpUnit::masters_changed() {
  c10::NoGradGuard no_grad;
  if (whole_on_this_rank()) {
    is_whole_ = false;  // the compute copy is old; the next gather casts again
    return;
  }
  const bool reshard = std::exchange(options_.reshard_after_forward, true);
  release();
  options_.reshard_after_forward = reshard;
  if (!compute_shard_.is_same(master_)) compute_shard_.copy_(master_);
}

void FsdpUnit::reduce_microbatch(bool last) {
  c10::NoGradGuard no_grad;
  settle();
  last_microbatch_ = last;
  if (whole_on_this_rank() || options_.reduce_once) accumulate();
  if (!whole_on_this_rank() && (last || !options_.reduce_once)) start_exchange();
}

at::TensorOptions FsdpUnit::travelling() const {
  return options_.reduce_in_bfloat16 ? master_.options().dtype(at::kBFloat16) : master_.options();
}

// Adds the leaves' gradients, whole, to the sums.
void FsdpUnit::accumulate() {
  for (Use& use : uses_) {
    at::Tensor grad = std::exchange(use.parameter->weight.mutable_grad(), at::Tensor()).reshape({-1});
    const int64_t padded = whole_on_this_rank() ? use.tensor->master.numel() : grad.numel();
    if (grad.numel() != padded) grad = at::constant_pad_nd(grad, {0, padded - grad.numel()});
    OrderedSum& sum = shares_accumulators() ? accumulator_of(*use.tensor) : use.sum;
    sum.add(options_.ordered || sum.empty() ? grad.to(options_.state_dtype) : std::move(grad));
  }
}

// Sends the leaves' gradients, or their sums, to the ranks that keep the shards.
void FsdpUnit::start_exchange() {
  int64_t elements = 0;
  for (const Use& use : uses_) elements += use.tensor->master.numel();
  const at::Tensor mine = at::empty({shard_.size(), elements}, travelling());
  int64_t offset = 0;
  for (Use& use : uses_) {
    const at::Tensor grad = options_.reduce_once ? use.sum.take().view(use.tensor->piece.shape)
                                                 : std::exchange(use.parameter->weight.mutable_grad(), at::Tensor());
    const int64_t slot = use.tensor->master.numel();
    scatter(grad, mine.narrow(1, offset, slot), *use.tensor);
    offset += slot;
  }
  received_ = at::empty_like(mine);
  exchange_ = start_all_to_all(received_, mine, shard_);
}

void FsdpUnit::settle() {
  c10::NoGradGuard no_grad;
  if (received_.defined()) {
    exchange_.wait();
    const at::Tensor sum = tree_sum_(received_.to(options_.state_dtype));
    const int level = std::countr_zero(static_cast<uint64_t>(shard_.size()));
    int64_t offset = 0;
    for (Use& use : uses_) {
      const int64_t slot = use.tensor->master.numel();
      use.sum.add(sum.narrow(0, offset, slot).clone(), level);  // a copy, so that the exchange buffer can go
      offset += slot;
    }
    received_.reset();
  }
  if (std::exchange(last_microbatch_, false) && replicate_.size() > 1) start_adding_replicas();
}

OrderedSum& FsdpUnit::accumulator_of(const ShardedTensor& tensor) {
  return std::find_if(uses_.begin(), uses_.end(), [&](const Use& use) { return use.tensor == &tensor; })->sum;
}

void FsdpUnit::start_adding_replicas() {
  int64_t elements = 0;
  for (const Use& use : uses_) elements += use.tensor->master.numel();
  const int64_t copies = replicate_.size(), part = spec::shard_rows(elements, copies, 0).size();
  const at::Tensor mine = at::zeros({copies * part}, travelling());
  int64_t offset = 0;
  for (Use& use : uses_) {
    const int64_t slot = use.tensor->master.numel();
    mine.narrow(0, offset, slot).copy_(use.sum.take());
    offset += slot;
  }
  replicas_ = at::empty({copies, part}, mine.options());
  replicate_exchange_ = start_all_to_all(replicas_, mine.view({copies, part}), replicate_);
}

void FsdpUnit::advance_replicas() {
  if (!replicas_.defined()) return replicate_gather_.wait();
  c10::NoGradGuard no_grad;
  replicate_exchange_.wait();
  const at::Tensor part = tree_sum_(replicas_.to(options_.state_dtype)).clone();  // what came can go
  replica_sum_ = at::empty({replicate_.size(), part.numel()}, part.options());
  replicate_gather_ = start_all_gather(replica_sum_, part, replicate_);
  replicas_.reset();
}

void FsdpUnit::finish_step() {
  c10::NoGradGuard no_grad;
  last_microbatch_ = !replicas_.defined() && !replica_sum_.defined();
  settle();
  std::vector<at::Tensor> sums;  // by use, [slot]
  if (replicate_.size() == 1) {
    for (Use& use : uses_) sums.push_back(use.sum.empty() && shares_accumulators() ? at::Tensor() : use.sum.take());
  } else {
    if (replicas_.defined()) advance_replicas();
    replicate_gather_.wait();
    const at::Tensor all = std::exchange(replica_sum_, at::Tensor()).view(-1);
    int64_t offset = 0;
    for (Use& use : uses_) {
      sums.push_back(all.narrow(0, offset, use.tensor->master.numel()));
      offset += use.tensor->master.numel();
    }
  }
  // A tied weight's uses are added once per step, the embedding's first (it is the first use).
  for (ShardedTensor& tensor : tensors_) tensor.grad.reset();
  for (size_t i = 0; i < uses_.size(); ++i) {
    at::Tensor& grad = uses_[i].tensor->grad;
    if (!sums[i].defined()) continue;
    if (grad.defined()) {
      grad.add_(sums[i]);
    } else {
      grad = std::move(sums[i]);
    }
  }
}

}  // namespace qwen3::parallel
