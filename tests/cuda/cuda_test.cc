// Device code. What needs a GPU skips itself without one.
#include "parallel/cuda/cuda.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <vector>

#include "parallel/collectives.h"

namespace qwen3::parallel::cuda {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// The definition of the tree: halves of a power of two of rows are added apart, then together.
float tree(const std::vector<float>& rows, size_t begin, size_t end) {
  if (end - begin == 1) return rows[begin];
  const size_t left = std::bit_floor(end - begin - 1);  // the widest whole subtree that leaves something
  return tree(rows, begin, begin + left) + tree(rows, begin + left, end);
}

TEST(CudaTreeSum, EqualsTheTreeBitForBitForEveryNumberOfRows) {
  if (!available()) GTEST_SKIP() << "no CUDA code or no GPU";
  for (int64_t n = 1; n <= 17; ++n) {
    const at::Tensor rows = at::randn({n, 1000}, at::kFloat) * at::logspace(-3, 3, n).unsqueeze(1);
    const at::Tensor sum = tree_sum(rows.to(at::kCUDA)).cpu();
    for (int64_t i = 0; i < rows.size(1); ++i) {
      const at::Tensor column = rows.select(1, i).contiguous();
      const std::vector<float> values(column.const_data_ptr<float>(), column.const_data_ptr<float>() + n);
      ASSERT_EQ(sum[i].item<float>(), tree(values, 0, values.size())) << n << " rows, column " << i;
    }
  }
}

TEST(CudaNccl, AGroupOfOneGathersItself) {
  if (!available()) GTEST_SKIP() << "no CUDA code or no GPU";
  auto group =
      make_nccl_backend(c10::make_intrusive<c10d::HashStore>(), /*rank=*/0, /*size=*/1, std::chrono::seconds(60));
  at::Tensor mine = at::arange(8, at::TensorOptions(at::kCUDA).dtype(at::kFloat));
  at::Tensor all = at::empty_like(mine);
  group->_allgather_base(all, mine)->wait();
  EXPECT_TRUE(at::equal(all, mine));
}

TEST(CudaNccl, AGroupTakesTensorsOnEitherDevice) {
  if (!available()) GTEST_SKIP() << "no CUDA code or no GPU";
  const auto store = Rendezvous::in_process();
  // A group of one, since NCCL takes a GPU only once; the axis claims two, or nothing would be sent.
  const MeshAxis axis("pair", /*index=*/0, /*size=*/2,
                      make_group(*store, "pair", /*rank=*/0, /*size=*/1, {.cuda = true}));
  for (const at::Device device : {at::Device(at::kCPU), at::Device(at::kCUDA, 0)}) {
    const at::Tensor x = at::arange(8, at::TensorOptions(device).dtype(at::kFloat));
    start_broadcast(x, /*root=*/0, axis).wait();
    EXPECT_EQ(x.sum().item<float>(), 28);
  }
}

// The peer of the last group never comes.
TEST(Cuda, WithoutAGpuAGroupIsRefusedWithASentenceAndWaitsForNobody) {
  if (available()) GTEST_SKIP() << "there is a GPU";
  const auto refused = ThrowsMessage<c10::Error>(
      testing::AnyOf(HasSubstr("this build has no CUDA code"), HasSubstr("this machine has none")));
  EXPECT_THAT([] { make_nccl_backend(c10::make_intrusive<c10d::HashStore>(), 0, 1, std::chrono::seconds(1)); },
              refused);
  const auto store = Rendezvous::in_process();
  EXPECT_THAT([&] { make_group(*store, "world", /*rank=*/0, /*size=*/2, {.cuda = true}); }, refused);
}

}  // namespace
}  // namespace qwen3::parallel::cuda
