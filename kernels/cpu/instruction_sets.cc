#include <iterator>

#include "kernels/cpu/row_kernels.h"

namespace qwen3::kernels::cpu {

// Each is row_kernels.cc, compiled for that instruction set.
namespace baseline {
extern const RowKernels kFloat32, kBfloat16;
}
#ifdef __x86_64__
namespace avx2 {
extern const RowKernels kFloat32, kBfloat16;
}
namespace avx512 {
extern const RowKernels kFloat32, kBfloat16;
}
#endif

InstructionSets instruction_sets() {
#ifdef __x86_64__
  static const InstructionSet sets[] = {{"baseline", baseline::kFloat32, baseline::kBfloat16},
                                        {"avx2", avx2::kFloat32, avx2::kBfloat16},
                                        {"avx512", avx512::kFloat32, avx512::kBfloat16}};
  static const int64_t count = [] {
    if (!__builtin_cpu_supports("avx2")) return 1;
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    return wide ? 3 : 2;
  }();
  return {sets, count};
#else
  static const InstructionSet sets[] = {{"baseline", baseline::kFloat32, baseline::kBfloat16}};
  return {sets, 1};
#endif
}

}  // namespace qwen3::kernels::cpu
