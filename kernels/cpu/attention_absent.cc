// For processors that have no such instruction: attention_bf16.h says so and is never called.
#include "kernels/cpu/attention_bf16.h"

namespace qwen3::kernels::cpu {

bool has_attention_bf16() { return false; }
int64_t attention_bf16_scratch(const AttentionShape&) { return 0; }
void attention_bf16(const AttentionShape&, int64_t, const HeadRows*, HeadRows, HeadRows, const MutableHeadRows*,
                    float* const*, void*) {}
void attention_bf16_backward(const AttentionShape&, int64_t, const HeadRows*, const HeadRows*, HeadRows, HeadRows,
                             const HeadRows*, const float* const*, const MutableHeadRows*, MutableHeadRows,
                             MutableHeadRows, void*) {}

}  // namespace qwen3::kernels::cpu
