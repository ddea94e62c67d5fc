#include "kernels/cpu/recycling_allocator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace qwen3::kernels {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

at::Tensor tensor_of(int64_t bytes) { return at::empty({bytes}, at::kByte); }

class RecyclingAllocator : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { install_recycling_allocator(); }
};

TEST_F(RecyclingAllocator, CountsLiveAndPeakBytesAsAskedFor) {
  const int64_t before = live_bytes();
  reset_peak();
  {
    const at::Tensor small = tensor_of(100), large = tensor_of(3 * kMiB + 5);
    EXPECT_EQ(live_bytes() - before, 100 + 3 * kMiB + 5);
    const at::Tensor view = large.view({-1, 1});  // shares the storage
    EXPECT_EQ(live_bytes() - before, 100 + 3 * kMiB + 5);
  }
  EXPECT_EQ(live_bytes(), before);
  EXPECT_EQ(peak_bytes() - before, 100 + 3 * kMiB + 5);
  reset_peak();
  EXPECT_EQ(peak_bytes(), before);
}

TEST_F(RecyclingAllocator, HandsTheSameLargeBufferOutAgain) {
  at::Tensor first = tensor_of(kMiB);
  const void* address = first.data_ptr();
  first.reset();
  const at::Tensor slightly_smaller = tensor_of(kMiB - 1000);
  EXPECT_EQ(slightly_smaller.data_ptr(), address);
  EXPECT_NE(tensor_of(kMiB).data_ptr(), address);  // it is in use
}

TEST_F(RecyclingAllocator, DoesNotSpendALargeBufferOnASmallTensor) {
  at::Tensor large = tensor_of(8 * kMiB);
  const void* address = large.data_ptr();
  large.reset();
  EXPECT_NE(tensor_of(kMiB).data_ptr(), address);
  EXPECT_EQ(tensor_of(8 * kMiB).data_ptr(), address);
}

TEST_F(RecyclingAllocator, AlignsDataToCacheLines) {
  for (const int64_t bytes : {int64_t{1}, int64_t{1000}, 64 * int64_t{1024}, kMiB + 1, 9 * kMiB}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor_of(bytes).data_ptr()) % 64, 0) << bytes;
  }
}

TEST_F(RecyclingAllocator, KeepsNoMoreThanAQuarterOverTheLargestUse) {
  { const at::Tensor most = tensor_of(64 * kMiB); }
  // Sizes that never fit each other, so that every one is fresh.
  for (int64_t size = kMiB; size < 40 * kMiB; size += size / 4) tensor_of(size);
  EXPECT_LE(kept_bytes(), 64 * kMiB * 5 / 4);
  EXPECT_GT(kept_bytes(), 0);
}

TEST_F(RecyclingAllocator, AnEmptyTensorAndARawAllocationAreFine) {
  EXPECT_EQ(tensor_of(0).data_ptr(), nullptr);
  c10::Allocator* allocator = c10::GetAllocator(c10::kCPU);
  const int64_t before = live_bytes();
  void* raw = allocator->raw_allocate(kMiB);
  EXPECT_EQ(live_bytes() - before, kMiB);
  allocator->raw_deallocate(raw);
  EXPECT_EQ(live_bytes(), before);
}

TEST_F(RecyclingAllocator, ThreadsNeverShareABuffer) {
  const int64_t before = live_bytes();
  std::vector<std::thread> threads;
  std::atomic<int> overwritten = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &overwritten] {
      for (int i = 0; i < 200; ++i) {
        const at::Tensor mine = tensor_of(100000 + 4096 * (i % 5));
        auto* data = mine.mutable_data_ptr<uint8_t>();
        std::fill_n(data, mine.numel(), static_cast<uint8_t>(t));
        std::this_thread::yield();
        if (std::count(data, data + mine.numel(), static_cast<uint8_t>(t)) != mine.numel()) ++overwritten;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(overwritten, 0);
  EXPECT_EQ(live_bytes(), before);
}

}  // namespace
}  // namespace qwen3::kernels
