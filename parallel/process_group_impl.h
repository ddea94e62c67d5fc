// What process_group.h hides: included by process_group.cc and collectives.cc only.
#pragma once
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "parallel/process_group.h"

namespace qwen3::parallel {

struct Rendezvous::Impl {
  c10::intrusive_ptr<c10d::Store> store;
  int port = 0;
};

struct ProcessGroup::Impl {
  c10::intrusive_ptr<c10d::Backend> gloo;  // for tensors on CPU
  c10::intrusive_ptr<c10d::Backend> nccl;  // for tensors on a GPU; null unless GroupOptions::cuda
};

}  // namespace qwen3::parallel
