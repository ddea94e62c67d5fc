// The loops of the fused operations over rows of memory: no tensors, no threads. One source, compiled once for each
// instruction set; all give the same bits, since each adds in 16 lanes in the same order and none fuses a multiply with
// an add.
#pragma once
#include <cstdint>
#include <string_view>

namespace qwen3::kernels::cpu {

// For one element type, float32 or bfloat16 (as bits). `const void*` and `void*` point to elements of it; rows are
// contiguous. Everything is computed in float32 and rounded once, to nearest even.
struct RowKernels {
  // x [rows, dim], weight [dim] -> y [rows, dim], inverse_rms [rows].
  void (*norm)(const void* x, const void* weight, float eps, int64_t rows, int64_t dim, void* y, float* inverse_rms);
  // -> x_gradient [rows, dim]; adds these rows' part to weight_gradient [dim], row by row.
  void (*norm_backward)(const void* gradient, const void* x, const void* weight, const float* inverse_rms, int64_t rows,
                        int64_t dim, void* x_gradient, float* weight_gradient);

  // The same norm, then the rotation of pairs (i, i + dim / 2). Rows are [position, head]: cos and sin are
  // [positions, dim / 2], and the first of the rows is row `first`, so of position first / heads.
  void (*norm_rotate)(const void* x, const void* weight, const float* cos, const float* sin, float eps, int64_t first,
                      int64_t rows, int64_t heads, int64_t dim, void* y, float* inverse_rms);
  void (*norm_rotate_backward)(const void* gradient, const void* x, const void* weight, const float* inverse_rms,
                               const float* cos, const float* sin, int64_t first, int64_t rows, int64_t heads,
                               int64_t dim, void* x_gradient, float* weight_gradient);

  // silu(gate) * up, n elements each.
  void (*swiglu)(const void* gate, const void* up, int64_t n, void* out);
  void (*swiglu_backward)(const void* gradient, const void* gate, const void* up, int64_t n, void* gate_gradient,
                          void* up_gradient);

  // sum[i] += x[i].
  void (*add)(const void* x, int64_t n, float* sum);
};

struct InstructionSet {
  std::string_view name;  // "baseline", "avx2", "avx512"
  const RowKernels& float32;
  const RowKernels& bfloat16;
};

// All that this processor can run, the fastest last. Never empty.
struct InstructionSets {
  const InstructionSet* begin() const { return sets; }
  const InstructionSet* end() const { return sets + count; }
  const InstructionSet& best() const { return sets[count - 1]; }
  const InstructionSet* sets;
  int64_t count;
};
InstructionSets instruction_sets();

}  // namespace qwen3::kernels::cpu
