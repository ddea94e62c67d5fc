// What these binaries are. A gang of workers with unlike build ids is refused.
#pragma once
#include <string_view>

namespace qwen3 {

std::string_view version();   // semantic version, "0.1.0"
std::string_view build_id();  // version and source: "0.1.0+9f2c1e8a77b0"; "-dirty" behind it if edited when configured

}  // namespace qwen3
