#include "spec/config/fast_bfloat16.h"

#include <gtest/gtest.h>

namespace qwen3::spec::config {
namespace {

TEST(FastBfloat16, IsWhatTheCpuFlagsSay) {
  EXPECT_TRUE(has_fast_bfloat16("processor\t: 0\nflags\t\t: fpu sse2 amx_bf16 avx2\n"));
  EXPECT_TRUE(has_fast_bfloat16("flags\t\t: fpu avx512_bf16\n"));
  EXPECT_FALSE(has_fast_bfloat16("flags\t\t: fpu avx512f amx_bf16x\nmodel name\t: amx_bf16\n"));
  EXPECT_FALSE(has_fast_bfloat16(""));
}

}  // namespace
}  // namespace qwen3::spec::config
