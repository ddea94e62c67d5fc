#include "kernels/attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include <cmath>

#include "kernels/cpu/attention_bf16.h"

namespace qwen3::kernels {
namespace {

cpu::AttentionShape shape_of(const at::Tensor& q) {
  return {.length = q.size(1),
          .dim = q.size(3),
          .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(q.size(3))))};
}

// Rows of E values that begin at an even element; copied where they do not lie like that.
at::Tensor in_rows(const at::Tensor& x) {
  const bool even = x.stride(0) % 2 == 0 && x.stride(1) % 2 == 0 && x.stride(2) % 2 == 0 && x.storage_offset() % 2 == 0;
  return even && x.stride(3) == 1 ? x : x.contiguous();
}

cpu::HeadRows head_of(const at::Tensor& x, int64_t b, int64_t head) {
  const auto* data = static_cast<const uint16_t*>(x.const_data_ptr());
  return {data + b * x.stride(0) + head * x.stride(2), x.stride(1)};
}

cpu::MutableHeadRows mutable_head_of(const at::Tensor& x, int64_t b, int64_t head) {
  auto* data = static_cast<uint16_t*>(x.mutable_data_ptr());
  return {data + b * x.stride(0) + head * x.stride(2), x.stride(1)};
}

// Runs body(b, head of k and v, scratch) for each, in parallel.
template <typename Body>
void for_heads(const at::Tensor& q, const at::Tensor& k, const Body& body) {
  constexpr int64_t kAlignment = 64;
  const int64_t heads = k.size(2), bytes = cpu::attention_bf16_scratch(shape_of(q)) + kAlignment;
  at::parallel_for(0, q.size(0) * heads, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    const at::Tensor scratch = at::empty({bytes}, at::kByte);
    const auto address = reinterpret_cast<uintptr_t>(scratch.mutable_data_ptr());
    auto* aligned = reinterpret_cast<void*>((address + kAlignment - 1) / kAlignment * kAlignment);
    for (int64_t i = begin; i < end; ++i) body(i / heads, i % heads, aligned);
  });
}

}  // namespace

bool takes_causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  static const bool suits = cpu::has_attention_bf16() && !at::native::cpublas::could_pack(at::kBFloat16);
  for (const at::Tensor& x : {q, k, v}) {
    if (!x.device().is_cpu() || x.scalar_type() != at::kBFloat16) return false;
  }
  return suits && q.size(1) == k.size(1) && q.size(1) > 0 && q.size(3) % 32 == 0 && q.size(2) % k.size(2) == 0 &&
         k.sizes() == v.sizes() && k.size(0) * k.size(2) >= at::get_num_threads();
}

std::pair<at::Tensor, at::Tensor> causal_attention(const at::Tensor& q_in, const at::Tensor& k_in,
                                                   const at::Tensor& v_in) {
  const at::Tensor q = in_rows(q_in), k = in_rows(k_in), v = in_rows(v_in);
  const int64_t length = q.size(1), heads = q.size(2), group = heads / k.size(2);
  at::Tensor out = at::empty(q.sizes(), q.options());
  at::Tensor log_sum_exp = at::empty({q.size(0), heads, length}, q.options().dtype(at::kFloat));
  for_heads(q, k, [&](int64_t b, int64_t kv, void* scratch) {
    std::vector<cpu::HeadRows> queries;
    std::vector<cpu::MutableHeadRows> outs;
    std::vector<float*> log_sums;
    for (int64_t head = kv * group; head < (kv + 1) * group; ++head) {
      queries.push_back(head_of(q, b, head));
      outs.push_back(mutable_head_of(out, b, head));
      log_sums.push_back(log_sum_exp.mutable_data_ptr<float>() + (b * heads + head) * length);
    }
    cpu::attention_bf16(shape_of(q), group, queries.data(), head_of(k, b, kv), head_of(v, b, kv), outs.data(),
                        log_sums.data(), scratch);
  });
  return {out, log_sum_exp};
}

std::vector<at::Tensor> causal_attention_backward(const at::Tensor& gradient_in, const at::Tensor& q_in,
                                                  const at::Tensor& k_in, const at::Tensor& v_in, const at::Tensor& out,
                                                  const at::Tensor& log_sum_exp) {
  const at::Tensor gradient = in_rows(gradient_in), q = in_rows(q_in), k = in_rows(k_in), v = in_rows(v_in);
  const int64_t length = q.size(1), heads = q.size(2), group = heads / k.size(2);
  at::Tensor q_gradient = at::empty(q.sizes(), q.options()), k_gradient = at::empty(k.sizes(), k.options()),
             v_gradient = at::empty(v.sizes(), v.options());
  for_heads(q, k, [&](int64_t b, int64_t kv, void* scratch) {
    std::vector<cpu::HeadRows> gradients, queries, outs;
    std::vector<cpu::MutableHeadRows> q_gradients;
    std::vector<const float*> log_sums;
    for (int64_t head = kv * group; head < (kv + 1) * group; ++head) {
      gradients.push_back(head_of(gradient, b, head));
      queries.push_back(head_of(q, b, head));
      outs.push_back(head_of(out, b, head));
      q_gradients.push_back(mutable_head_of(q_gradient, b, head));
      log_sums.push_back(log_sum_exp.const_data_ptr<float>() + (b * heads + head) * length);
    }
    cpu::attention_bf16_backward(shape_of(q), group, gradients.data(), queries.data(), head_of(k, b, kv),
                                 head_of(v, b, kv), outs.data(), log_sums.data(), q_gradients.data(),
                                 mutable_head_of(k_gradient, b, kv), mutable_head_of(v_gradient, b, kv), scratch);
  });
  return {q_gradient, k_gradient, v_gradient};
}

}  // namespace qwen3::kernels
