// All that needs CUDA, in one target: nccl.cc and kernels.cu where the build has QWEN3_CUDA=ON, absent.cc otherwise.
// Everything else compiles once, whatever the device.
#pragma once
#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace qwen3::parallel::cuda {

// Whether this build has CUDA code and this machine a GPU.
bool available();

// An NCCL group over the GPUs of its members: a collective over them, made in the same order by every rank. The rank's
// GPU is the current device of the calling thread. Throws c10::Error if available() is false.
c10::intrusive_ptr<c10d::Backend> make_nccl_backend(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t size,
                                                    std::chrono::milliseconds timeout);

// rows [n, ...] on a GPU, contiguous, float32 or float64 -> [...]: the sum by the tree of parallel/ordered_sum.h, bit
// for bit what the CPU computes. One pass over rows; ordered on the current stream.
at::Tensor tree_sum(const at::Tensor& rows);

}  // namespace qwen3::parallel::cuda
