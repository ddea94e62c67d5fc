// The loops of causal attention in bfloat16, for one batch row and one head of keys and values: no tensors, no threads.
// Every product is taken by the processor's bfloat16 instruction with float32 sums.
#pragma once
#include <cstdint>

namespace qwen3::kernels::cpu {

// Rows of E bfloat16 values (as bits), `stride` elements from one position to the next; of one head.
struct HeadRows {
  const uint16_t* data;
  int64_t stride;  // even
  const uint16_t* row(int64_t s) const { return data + s * stride; }
};
struct MutableHeadRows {
  uint16_t* data;
  int64_t stride;
  uint16_t* row(int64_t s) const { return data + s * stride; }
};

struct AttentionShape {
  int64_t length;  // S
  int64_t dim;     // E, a multiple of 32
  float scale;
};

// Whether this processor has the instruction.
bool has_attention_bf16();

// Bytes of scratch memory, 64-byte aligned, that a call of either needs.
int64_t attention_bf16_scratch(const AttentionShape& shape);

// For each of the `heads` that share k and v: out = softmax(scale q k^T, causal) v, log_sum_exp [S] of the scaled
// scores.
void attention_bf16(const AttentionShape& shape, int64_t heads, const HeadRows* q, HeadRows k, HeadRows v,
                    const MutableHeadRows* out, float* const* log_sum_exp, void* scratch);

// The gradients of q for each head, and of k and v summed over the heads.
void attention_bf16_backward(const AttentionShape& shape, int64_t heads, const HeadRows* gradient, const HeadRows* q,
                             HeadRows k, HeadRows v, const HeadRows* out, const float* const* log_sum_exp,
                             const MutableHeadRows* q_gradient, MutableHeadRows k_gradient, MutableHeadRows v_gradient,
                             void* scratch);

}  // namespace qwen3::kernels::cpu
