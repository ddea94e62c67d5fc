// Keys of torchtitan 0.2's TOML that JobSpec does not use, so that files written for it load: some are accepted
// without effect (the user is told), the others are refused with what to write instead. docs/config.md lists them all.
#pragma once
#include <span>
#include <string_view>

namespace qwen3::spec::config {

enum class KeyUse { kNoEffect, kRefused };

struct TorchtitanKey {
  std::string_view path;  // "training.gc_freq"; may also be a key of JobSpec whose value has no effect yet
  KeyUse use;
  // Values that need no word, as TOML text separated by '|': torchtitan's default, or what switches the feature off.
  std::string_view silent;
  std::string_view why;  // kNoEffect: why it has none; kRefused: what to write instead
};

std::span<const TorchtitanKey> torchtitan_keys();
const TorchtitanKey* find_torchtitan_key(std::string_view path);  // null: no such key

}  // namespace qwen3::spec::config
