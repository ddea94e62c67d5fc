#include <c10/util/Exception.h>

#include "parallel/cuda/cuda.h"

namespace qwen3::parallel::cuda {
namespace {

constexpr const char* kMessage = "this build has no CUDA code; build it with `cmake --preset cuda` (needs nvcc 13)";

}  // namespace

bool available() { return false; }

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(c10::intrusive_ptr<c10d::Store>, int64_t, int64_t,
                                                    std::chrono::milliseconds) {
  TORCH_CHECK(false, kMessage);
}

at::Tensor tree_sum(const at::Tensor&) { TORCH_CHECK(false, kMessage); }

}  // namespace qwen3::parallel::cuda
