#include "tokenizer/bpe.h"

#include <algorithm>
#include <bit>

namespace qwen3::tokenizer {

MergeTable::MergeTable(std::size_t capacity) {
  const std::size_t slots = std::bit_ceil(std::max<std::size_t>(16, capacity * 2));
  entries_.resize(slots);
  mask_ = slots - 1;
  shift_ = 64 - std::countr_zero(slots);
}

bool MergeTable::insert(int32_t left, int32_t right, int32_t rank, int32_t result) {
  const uint64_t pair = key(left, right);
  for (uint64_t slot = hash(pair);; ++slot) {
    Entry& entry = entries_[slot & mask_];
    if (entry.pair == pair) return false;
    if (entry.pair != kEmpty) continue;
    entry = {pair, rank, result};
    return true;
  }
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& ids) {
  constexpr std::size_t kShort = 64;  // bytes; below this a scan for the lowest rank beats a heap
  word.size() < kShort ? encode_short(word, ids) : encode_long(word, ids);
}

void Bpe::encode_short(std::string_view word, std::vector<int32_t>& ids) {
  std::array<int32_t, 64> tokens;
  std::array<MergeTable::Entry, 64> pairs;  // pairs[i] joins tokens i and i + 1
  auto count = static_cast<int>(word.size());
  for (int i = 0; i < count; ++i) tokens[i] = byte_ids_[static_cast<unsigned char>(word[i])];
  for (int i = 0; i + 1 < count; ++i) pairs[i] = merges_.find(tokens[i], tokens[i + 1]);
  while (count > 1) {
    int best = 0;
    for (int i = 1; i + 1 < count; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == MergeTable::kNoRank) break;
    tokens[best] = pairs[best].result;
    --count;
    std::copy(tokens.begin() + best + 2, tokens.begin() + count + 1, tokens.begin() + best + 1);
    if (best + 1 < count) std::copy(pairs.begin() + best + 1, pairs.begin() + count, pairs.begin() + best);
    if (best + 1 < count) pairs[best] = merges_.find(tokens[best], tokens[best + 1]);
    if (best > 0) pairs[best - 1] = merges_.find(tokens[best - 1], tokens[best]);
  }
  ids.insert(ids.end(), tokens.begin(), tokens.begin() + count);
}

void Bpe::push(int32_t left_position) {
  const Node& left = nodes_[left_position];
  if (left.next < 0) return;
  const Node& right = nodes_[left.next];
  const MergeTable::Entry& entry = merges_.find(left.id, right.id);
  if (entry.rank == MergeTable::kNoRank) return;
  heap_.push_back({entry.rank, left_position, left.id, right.id, entry.result});
}

void Bpe::encode_long(std::string_view word, std::vector<int32_t>& ids) {
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  };
  const auto count = static_cast<int32_t>(word.size());
  nodes_.clear();
  heap_.clear();
  for (int32_t i = 0; i < count; ++i) {
    nodes_.push_back({byte_ids_[static_cast<unsigned char>(word[i])], i - 1, i + 1 < count ? i + 1 : -1});
  }
  for (int32_t i = 0; i < count; ++i) push(i);
  std::make_heap(heap_.begin(), heap_.end(), later);
  const auto push_to_heap = [&](int32_t position) {
    const std::size_t before = heap_.size();
    push(position);
    if (heap_.size() > before) std::push_heap(heap_.begin(), heap_.end(), later);
  };
  constexpr int32_t kGone = -1;  // id of a node that was merged into its left neighbour
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    const Candidate candidate = heap_.back();
    heap_.pop_back();
    Node& left = nodes_[candidate.position];
    if (left.id != candidate.left || left.next < 0 || nodes_[left.next].id != candidate.right) continue;
    Node& right = nodes_[left.next];
    left.id = candidate.result;
    right.id = kGone;
    left.next = right.next;
    if (left.next >= 0) nodes_[left.next].previous = candidate.position;
    push_to_heap(candidate.position);
    if (left.previous >= 0) push_to_heap(left.previous);
  }
  for (int32_t i = 0; i >= 0; i = nodes_[i].next) ids.push_back(nodes_[i].id);
}

}  // namespace qwen3::tokenizer
