// Collectives over an axis: what each rank gets, and in which order and precision sums are added.
#include "parallel/collectives.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <system_error>

#include "parallel/process_group.h"
#include "tests/ranks/run_ranks.h"

namespace qwen3::testing {
namespace {

using parallel::MeshAxis;
using ::testing::HasSubstr;
using ::testing::Not;

void on_axis(int64_t size, const std::function<void(const MeshAxis&)>& body) { run_axis(spec::Axis::kTp, size, body); }

// The value of `all` [size] that is this rank's.
at::Tensor mine(const at::Tensor& all, const MeshAxis& axis) { return all.narrow(0, axis.index(), 1); }

TEST(Collectives, AnAllGatherAlongADimPutsThePiecesBehindEachOtherByRank) {
  on_axis(3, [](const MeshAxis& axis) {
    const at::Tensor whole = at::arange(24, at::kDouble).view({2, 6, 2});
    for (const int64_t dim : {1, -2}) {
      EXPECT_TRUE(at::equal(all_gather(whole.narrow(1, 2 * axis.index(), 2), dim, axis), whole));
    }
  });
}

TEST(Collectives, AReduceScatterGivesEachRankItsPieceOfTheSum) {
  on_axis(4, [](const MeshAxis& axis) {
    const at::Tensor x = at::arange(24, at::kDouble).view({2, 4, 3});
    const at::Tensor sum = x * 10;  // 1 + 2 + 3 + 4
    const at::Tensor before = x * (axis.index() + 1);
    const at::Tensor piece = reduce_scatter_sum(before, /*dim=*/1, axis);
    EXPECT_TRUE(at::equal(piece, sum.narrow(1, axis.index(), 1)));
    EXPECT_TRUE(at::equal(before, x * (axis.index() + 1))) << "the input is not changed";
  });
}

TEST(Collectives, AReduceScatterRefusesUnequalPieces) {
  on_axis(2, [](const MeshAxis& axis) {
    EXPECT_THROW(reduce_scatter_sum(at::ones({2, 3}), /*dim=*/1, axis), c10::ValueError);
  });
}

// Five elements over four ranks, and one over four.
TEST(Collectives, AnAllReduceTakesAnyNumberOfElements) {
  on_axis(4, [](const MeshAxis& axis) {
    EXPECT_TRUE(at::equal(all_reduce_sum(at::arange(5, at::kDouble) * (axis.index() + 1), axis),
                          at::arange(5, at::kDouble) * 10));
    EXPECT_TRUE(at::equal(all_reduce_sum(at::ones({}, at::kFloat), axis), at::full({}, 4, at::kFloat)));
  });
}

// 1 is lost beside 2^25, so (1 + 2^25) + (-2^25 + 1) = 0, where a running sum from either end gives 1.
TEST(Collectives, SumsAreAddedAsATreeInRankOrder) {
  on_axis(4, [](const MeshAxis& axis) {
    const at::Tensor all = at::tensor({1.F, 33554432.F, -33554432.F, 1.F});
    EXPECT_EQ(all_reduce_sum(mine(all, axis), axis).item<float>(), 0);
    EXPECT_EQ(reduce_scatter_sum(mine(all, axis).expand(4), /*dim=*/0, axis).item<float>(), 0);
  });
}

// 256 + 1 + 1 + 1 = 259, halfway between the bfloat16 numbers 258 and 260, rounds to 260, the even one. Rounded after
// every addition it would be 258.
TEST(Collectives, SumsOfBfloat16AreRoundedOnce) {
  on_axis(4, [](const MeshAxis& axis) {
    const at::Tensor all = at::tensor({256., 1., 1., 1.}).to(at::kBFloat16);
    const at::Tensor sum = all_reduce_sum(mine(all, axis), axis);
    EXPECT_EQ(sum.scalar_type(), at::kBFloat16);
    EXPECT_EQ(sum.item<float>(), 260);
  });
}

TEST(Collectives, IntegersAreAddedExactly) {
  on_axis(2, [](const MeshAxis& axis) {
    const int64_t large = (int64_t{1} << 53) + 1;  // no double
    EXPECT_EQ(all_reduce_sum(at::full({3}, large, at::kLong), axis)[0].item<int64_t>(), 2 * large);
  });
}

TEST(Collectives, OneRankCanSendToAllAndAllToOne) {
  on_axis(3, [](const MeshAxis& axis) {
    for (int64_t root = 0; root < axis.size(); ++root) {
      at::Tensor x = at::full({2}, static_cast<double>(axis.index()), at::kDouble);
      start_broadcast(x, root, axis).wait();
      EXPECT_TRUE(at::equal(x, at::full({2}, static_cast<double>(root), at::kDouble)));

      const at::Tensor all = axis.index() == root ? at::empty({3, 2}, at::kDouble) : at::Tensor();
      start_gather(all, at::full({2}, static_cast<double>(axis.index()), at::kDouble), root, axis).wait();
      if (axis.index() == root) {
        EXPECT_TRUE(at::equal(all.select(1, 1), at::arange(3, at::kDouble)));
      }
    }
  });
}

// Whose peers would be blamed for a c10::DistError.
void expect_own_error(const std::function<parallel::Pending()>& start) {
  try {
    start().wait();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const c10::DistError& e) {
    ADD_FAILURE() << e.what_without_backtrace();
  } catch (const c10::Error& e) {
    EXPECT_THAT(e.what_without_backtrace(), Not(HasSubstr("a peer is lost")));
  }
}

TEST(Collectives, AWrongShapeOrDtypeIsTheRanksOwnErrorAndTheGroupGoesOn) {
  on_axis(2, [](const MeshAxis& axis) {
    expect_own_error([&] { return start_all_gather(at::empty({2, 3}), at::ones({2}), axis); });
    expect_own_error([&] { return start_all_gather(at::empty({2, 3}, at::kDouble), at::ones({3}), axis); });
    expect_own_error([&] { return start_all_to_all(at::empty({2, 3}), at::ones({2, 2}), axis); });
    expect_own_error([&] { return start_all_to_all(at::empty({2, 3}, at::kDouble), at::ones({2, 3}), axis); });
    const std::vector<int64_t> two{1, 1}, three{1, 2};  // rows from each rank and for each
    expect_own_error([&] { return start_all_to_all(at::empty({3, 2}), at::ones({3, 2}), two, three, axis); });
    expect_own_error([&] { return start_all_to_all(at::empty({3, 2}), at::ones({3, 4}), three, three, axis); });
    expect_own_error([&] { return start_broadcast(at::ones({2}), /*root=*/2, axis); });
    EXPECT_TRUE(at::equal(all_reduce_sum(at::ones({3}), axis), at::full({3}, 2, at::kFloat)));
  });
}

// The address that rank 1 left is one that nobody listens at any more. Gloo throws a plain std::runtime_error.
TEST(Groups, APeerThatDiedWhileAllConnectIsALostPeer) {
  const auto store = parallel::Rendezvous::in_process();
  const parallel::GroupOptions options{.timeout = std::chrono::seconds(1)};
  EXPECT_THROW(parallel::make_group(*store, "late", /*rank=*/1, /*size=*/2, options), c10::DistError);
  EXPECT_THROW(parallel::make_group(*store, "late", /*rank=*/0, /*size=*/2, options), c10::DistError);
}

TEST(Groups, AnInterfaceThatThisHostDoesNotHaveIsAnErrorOfTheSystem) {
  const auto store = parallel::Rendezvous::in_process();
  EXPECT_THROW(parallel::make_group(*store, "g", /*rank=*/0, /*size=*/2, {.interface = "nosuch0"}), std::system_error);
}

}  // namespace
}  // namespace qwen3::testing
