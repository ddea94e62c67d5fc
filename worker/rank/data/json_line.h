// One line of a JSONL file.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qwen3::data {

// The strings that are members `keys` of the object in `line`, in the order of the keys; other members are read over.
// Throws std::runtime_error with what is wrong and the key. Memory does not depend on what else is in the line.
std::vector<std::string> strings_of_json_line(std::string_view line, std::span<const std::string> keys);

}  // namespace qwen3::data
