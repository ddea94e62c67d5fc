#include "coordinator/allocator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace qwen3::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

WorkerSlots worker(const std::string& id, int32_t slots, std::vector<int32_t> free, const std::string& kind = "cpu",
                   const std::string& build = "b1") {
  return {.worker = id, .device_kind = kind, .build_id = build, .slots = slots, .free = std::move(free)};
}

TEST(Allocator, AGangIsPlacedWhollyOrNotAtAll) {
  const std::vector<WorkerSlots> workers = {worker("a", 2, {0, 1}), worker("b", 2, {1})};
  const auto three = allocate(3, workers, {});
  ASSERT_TRUE(three.ok());
  EXPECT_EQ(three->size(), 3u);
  const auto four = allocate(4, workers, {});
  EXPECT_TRUE(absl::IsResourceExhausted(four.status()));
  EXPECT_THAT(std::string(four.status().message()), HasSubstr("needs 4 slots"));
  EXPECT_THAT(std::string(four.status().message()), HasSubstr("3 of 4 are free"));
}

TEST(Allocator, AJobLargerThanTheClusterIsToldSo) {
  EXPECT_TRUE(absl::IsFailedPrecondition(allocate(3, {worker("a", 2, {0, 1})}, {}).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(allocate(1, {}, {}).status()));
}

TEST(Allocator, AGangNeverMixesBuildsOrDevices) {
  const std::vector<WorkerSlots> workers = {worker("a", 1, {0}, "cpu", "b1"), worker("b", 1, {0}, "cpu", "b2"),
                                            worker("c", 1, {0}, "cuda", "b1")};
  EXPECT_FALSE(allocate(2, workers, {}).ok());
  EXPECT_TRUE(allocate(1, workers, {}).ok());
}

TEST(Allocator, RanksOfAWorkerAreContiguousAndWorkersAreFew) {
  const std::vector<WorkerSlots> workers = {worker("a", 4, {3}), worker("b", 4, {0, 1, 2, 3}), worker("c", 2, {0, 1})};
  const auto places = allocate(6, workers, {});
  ASSERT_TRUE(places.ok());
  EXPECT_THAT(*places,
              ElementsAre(Place{"b", 0}, Place{"b", 1}, Place{"b", 2}, Place{"b", 3}, Place{"c", 0}, Place{"c", 1}));
  const auto two = allocate(2, workers, {});
  ASSERT_TRUE(two.ok());
  EXPECT_THAT(*two, ElementsAre(Place{"c", 0}, Place{"c", 1})) << "the worker it fills exactly";
}

TEST(Allocator, SurvivorsKeepTheirRanks) {
  const std::vector<Place> previous = {{"a", 0}, {"b", 0}, {"c", 0}};
  const std::vector<WorkerSlots> workers = {worker("a", 1, {0}), worker("c", 1, {0}),
                                            worker("d", 1, {0})};  // b is lost
  const auto places = allocate(3, workers, previous);
  ASSERT_TRUE(places.ok());
  EXPECT_THAT(*places, ElementsAre(Place{"a", 0}, Place{"d", 0}, Place{"c", 0}));
}

// Independent of how places are chosen: slots are free, distinct, of one kind, and there is an answer exactly when a
// kind has enough.
TEST(Allocator, RandomClustersAreAllocatedCorrectly) {
  std::mt19937 random(7);
  for (int round = 0; round < 20'000; ++round) {
    std::vector<WorkerSlots> workers;
    std::map<std::string, int64_t> free_by_kind;
    std::map<std::string, WorkerSlots> by_id;
    for (size_t w = 0, count = random() % 5; w < count; ++w) {
      WorkerSlots one = worker(std::string(1, static_cast<char>('a' + w)), 4, {}, random() % 2 ? "cpu" : "cuda");
      for (int32_t slot = 0; slot < 4; ++slot) {
        if (random() % 2) one.free.push_back(slot);
      }
      free_by_kind[one.device_kind] += static_cast<int64_t>(one.free.size());
      by_id[one.worker] = one;
      workers.push_back(one);
    }
    const int64_t ranks = 1 + random() % 6;
    std::vector<Place> previous;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      previous.push_back({std::string(1, static_cast<char>('a' + random() % 5)), static_cast<int32_t>(random() % 4)});
    }
    const auto places = allocate(ranks, workers, previous);
    bool fits = false;
    for (const auto& [kind, free] : free_by_kind) fits |= free >= ranks;
    ASSERT_EQ(places.ok(), fits);
    if (!fits) continue;
    std::set<std::pair<std::string, int32_t>> taken;
    std::set<std::string> kinds;
    for (const Place& place : *places) {
      const WorkerSlots& host = by_id.at(place.worker);
      ASSERT_THAT(host.free, ::testing::Contains(place.slot));
      ASSERT_TRUE(taken.insert({place.worker, place.slot}).second) << "one slot for two ranks";
      kinds.insert(host.device_kind);
    }
    ASSERT_EQ(kinds.size(), 1u);
  }
}

TEST(Allocator, ARankWithoutASlotGoesToTheLeastBurdenedWorker) {
  std::vector<WorkerSlots> workers = {{.worker = "a", .slots = 2, .free = {}, .guests = 1},
                                      {.worker = "b", .slots = 2, .free = {}},
                                      {.worker = "c", .slots = 2, .free = {0, 1}}};
  EXPECT_EQ(*allocate_without_slot(workers), (Place{"c", kNoSlot})) << "as few guests as b, but idle";
  workers[2].guests = 1;
  EXPECT_EQ(*allocate_without_slot(workers), (Place{"b", kNoSlot})) << "a worker without a free slot will do";
  for (WorkerSlots& worker : workers) worker.guests = kMaxGuests;
  EXPECT_TRUE(absl::IsResourceExhausted(allocate_without_slot(workers).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(allocate_without_slot({}).status())) << "there is no worker";
}

TEST(Allocator, WhatIsTakenIsNotFreeAndARestingWorkerGetsNoGuest) {
  std::vector<WorkerSlots> workers = {worker("a", 2, {0, 1}), worker("b", 1, {0})};
  take({{"a", 1}, {"b", 0}, {"b", kNoSlot}}, workers);
  EXPECT_THAT(workers[0].free, ElementsAre(0));
  EXPECT_TRUE(workers[1].free.empty());
  EXPECT_EQ(workers[1].guests, 1);
  workers[0].resting = true;
  EXPECT_EQ(allocate_without_slot(workers)->worker, "b");
  workers[1].resting = true;
  EXPECT_TRUE(absl::IsResourceExhausted(allocate_without_slot(workers).status()));
}

}  // namespace
}  // namespace qwen3::coordinator
