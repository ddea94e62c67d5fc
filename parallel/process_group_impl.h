// What process_group.h hides: included by process_group.cc, collectives.cc and parallel/cuda/ only.
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
  c10::intrusive_ptr<c10d::Backend> backend;
};

}  // namespace qwen3::parallel
