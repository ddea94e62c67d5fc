#include "parallel/fsdp/unit.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <bit>

namespace qwen3::parallel {
namespace {

constexpr int64_t kSlotMultiple = 16;  // elements; a cache line of float32

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

int64_t product(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  return n;
}

// Elements of the largest shard's slot; every rank's slot has this size, so that exchanges are even.
int64_t slot_size(const ShardedTensor& tensor, int64_t degree) {
  return round_up(spec::shard_rows(tensor.shape[0], degree, 0).size() * tensor.row_size, kSlotMultiple);
}

// Copies whole [rows, row_size] into slots [degree, slot] by rank, converting the dtype. Padding becomes zeros.
void scatter_rows(const at::Tensor& whole, const at::Tensor& slots, const ShardedTensor& tensor) {
  const int64_t degree = slots.size(0);
  for (int64_t r = 0; r < degree; ++r) {
    const spec::RowRange rows = spec::shard_rows(tensor.shape[0], degree, r);
    const int64_t numel = rows.size() * tensor.row_size;
    const at::Tensor slot = slots[r];
    if (numel < slot.numel()) slot.narrow(0, numel, slot.numel() - numel).zero_();
    if (numel == 0) continue;
    slot.narrow(0, 0, numel).view({rows.size(), tensor.row_size}).copy_(whole.narrow(0, rows.begin, rows.size()));
  }
}

// The inverse.
void collect_rows(const at::Tensor& slots, const at::Tensor& whole, const ShardedTensor& tensor) {
  const int64_t degree = slots.size(0);
  for (int64_t r = 0; r < degree; ++r) {
    const spec::RowRange rows = spec::shard_rows(tensor.shape[0], degree, r);
    if (rows.size() == 0) continue;
    whole.narrow(0, rows.begin, rows.size())
        .copy_(slots[r].narrow(0, 0, rows.size() * tensor.row_size).view({rows.size(), tensor.row_size}));
  }
}

}  // namespace

FsdpUnit::FsdpUnit(std::vector<model::Parameter*> parameters, const MeshAxis& shard, const MeshAxis& replicate,
                   const UnitOptions& options)
    : shard_(shard), replicate_(replicate), options_(options) {
  c10::NoGradGuard no_grad;
  for (model::Parameter* parameter : parameters) {
    auto known = std::find_if(tensors_.begin(), tensors_.end(),
                              [&](const ShardedTensor& tensor) { return tensor.name == parameter->tensor; });
    if (known == tensors_.end()) {
      ShardedTensor tensor;
      tensor.name = parameter->tensor;
      tensor.shape = parameter->shape;
      tensor.row_size = product(parameter->shape) / parameter->shape[0];
      tensor.rows = spec::shard_rows(parameter->shape[0], shard_.size(), shard_.index());
      tensors_.push_back(std::move(tensor));
      known = std::prev(tensors_.end());
    }
    known->uses.push_back(parameter);
  }

  for (const ShardedTensor& tensor : tensors_) shard_numel_ += slot_size(tensor, shard_.size());
  const auto state = at::TensorOptions().dtype(options_.state_dtype);
  master_ = at::zeros({shard_numel_}, state);
  int64_t offset = 0;
  for (ShardedTensor& tensor : tensors_) {
    const int64_t slot = slot_size(tensor, shard_.size());
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
    for (const ShardedTensor& tensor : tensors_) whole_numel += round_up(product(tensor.shape), kSlotMultiple);
    whole_ = at::empty({whole_numel}, state.dtype(options_.compute_dtype));
  }
  offset = 0;
  for (ShardedTensor& tensor : tensors_) {
    const int64_t numel = product(tensor.shape);
    for (model::Parameter* use : tensor.uses) {
      use->weight = whole_.narrow(0, offset, numel).view(tensor.shape).detach().requires_grad_(true);
      uses_.push_back({&tensor, use, OrderedSum(options_.ordered)});
    }
    offset += round_up(numel, kSlotMultiple);
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
    return;
  }
  gathered_ = at::empty({shard_.size(), shard_numel_}, compute_shard_.options());
  gather_ = start_all_gather(gathered_, compute_shard_, shard_);
}

void FsdpUnit::gather() {
  if (is_whole_) return;
  start_gather();
  is_whole_ = true;
  if (whole_on_this_rank()) return;
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
    const int64_t slot = tensor.master.numel(), numel = product(tensor.shape);
    collect_rows(gathered_.narrow(1, from, slot), raw.narrow(0, to, numel).view({tensor.shape[0], tensor.row_size}),
                 tensor);
    from += slot;
    to += round_up(numel, kSlotMultiple);
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

void FsdpUnit::reduce_microbatch() {
  c10::NoGradGuard no_grad;
  drain_exchange();
  if (whole_on_this_rank()) {
    for (Use& use : uses_) {
      at::Tensor grad = std::exchange(use.parameter->weight.mutable_grad(), at::Tensor()).reshape({-1});
      const int64_t slot = use.tensor->master.numel();
      if (grad.numel() != slot) grad = at::constant_pad_nd(grad, {0, slot - grad.numel()});
      OrderedSum& sum = shares_accumulators() ? accumulator_of(*use.tensor) : use.sum;
      sum.add(options_.ordered || sum.empty() ? grad.to(options_.state_dtype) : std::move(grad));
    }
    return;
  }
  int64_t elements = 0;
  for (const Use& use : uses_) elements += use.tensor->master.numel();
  const at::Tensor mine = at::empty({shard_.size(), elements}, master_.options());
  int64_t offset = 0;
  for (Use& use : uses_) {
    const at::Tensor grad = std::exchange(use.parameter->weight.mutable_grad(), at::Tensor());
    const int64_t slot = use.tensor->master.numel();
    scatter_rows(grad.reshape({use.tensor->shape[0], use.tensor->row_size}), mine.narrow(1, offset, slot), *use.tensor);
    offset += slot;
  }
  received_ = at::empty_like(mine);
  exchange_ = start_all_to_all(received_, mine, shard_);
}

void FsdpUnit::drain_exchange() {
  if (!received_.defined()) return;
  c10::NoGradGuard no_grad;
  exchange_.wait();
  const at::Tensor sum = tree_sum_(received_);
  const int level = std::countr_zero(static_cast<uint64_t>(shard_.size()));
  int64_t offset = 0;
  for (Use& use : uses_) {
    const int64_t slot = use.tensor->master.numel();
    use.sum.add(sum.narrow(0, offset, slot).clone(), level);  // a copy, so that the exchange buffer can go
    offset += slot;
  }
  received_.reset();
}

OrderedSum& FsdpUnit::accumulator_of(const ShardedTensor& tensor) {
  return std::find_if(uses_.begin(), uses_.end(), [&](const Use& use) { return use.tensor == &tensor; })->sum;
}

void FsdpUnit::start_finish_step() {
  c10::NoGradGuard no_grad;
  drain_exchange();
  if (replicate_.size() == 1) return;
  int64_t elements = 0;
  for (const Use& use : uses_) elements += use.tensor->master.numel();
  const at::Tensor mine = at::zeros({round_up(elements, replicate_.size())}, master_.options());
  int64_t offset = 0;
  for (Use& use : uses_) {
    const int64_t slot = use.tensor->master.numel();
    mine.narrow(0, offset, slot).copy_(use.sum.take());
    offset += slot;
  }
  replicas_ = at::empty({replicate_.size(), mine.numel() / replicate_.size()}, master_.options());
  replicate_exchange_ = start_all_to_all(replicas_, mine.view({replicate_.size(), -1}), replicate_);
}

void FsdpUnit::finish_step() {
  c10::NoGradGuard no_grad;
  std::vector<at::Tensor> sums;  // by use, [slot]
  if (replicate_.size() == 1) {
    drain_exchange();
    for (Use& use : uses_) sums.push_back(use.sum.empty() && shares_accumulators() ? at::Tensor() : use.sum.take());
  } else {
    if (!replicas_.defined()) start_finish_step();
    replicate_exchange_.wait();
    const at::Tensor all = all_gather(tree_sum_(replicas_), replicate_).view(-1);
    replicas_.reset();
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
