// A permutation of [0, n) by formula: a Feistel network over the next power of four, walked until it falls below n
// (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"). Nothing is stored, any place can be asked for.
#include <bit>

#include "worker/rank/data/dataset.h"

namespace qwen3::data {
namespace {

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

uint64_t permute(uint64_t index, uint64_t n, uint64_t key) {
  constexpr int kRounds = 6;
  if (n <= 1) return 0;
  const int half_bits = (std::bit_width(n - 1) + 1) / 2;
  const uint64_t half_mask = (uint64_t{1} << half_bits) - 1;
  do {
    uint64_t left = index >> half_bits;
    uint64_t right = index & half_mask;
    for (int round = 0; round < kRounds; ++round) {
      const uint64_t next = left ^ (mix(mix(key + static_cast<uint64_t>(round)) ^ right) & half_mask);
      left = right;
      right = next;
    }
    index = left << half_bits | right;
  } while (index >= n);
  return index;
}

}  // namespace

int64_t shuffled_index(uint64_t seed, int64_t sequences, int64_t global_batch, int64_t step, int64_t index) {
  const int64_t sample = (step - 1) * global_batch + index;
  const auto epoch = static_cast<uint64_t>(sample / sequences);
  const uint64_t key = mix(mix(seed) ^ epoch);
  return static_cast<int64_t>(
      permute(static_cast<uint64_t>(sample % sequences), static_cast<uint64_t>(sequences), key));
}

}  // namespace qwen3::data
