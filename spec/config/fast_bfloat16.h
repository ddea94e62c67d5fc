// Whether a CPU computes bfloat16 natively: what "auto" precision becomes there.
#pragma once
#include <string_view>

namespace qwen3::spec::config {

// Whether the CPU flags (the text of /proc/cpuinfo) have amx_bf16 or avx512_bf16.
bool has_fast_bfloat16(std::string_view cpuinfo);
bool host_has_fast_bfloat16();

}  // namespace qwen3::spec::config
