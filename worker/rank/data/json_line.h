// One line of a JSONL file.
#pragma once
#include <string>
#include <string_view>

namespace qwen3::data {

// The string "text" of the object in `line`; other members are read over. Throws std::runtime_error with what is
// wrong. Memory does not depend on what else is in the line.
std::string text_of_json_line(std::string_view line);

}  // namespace qwen3::data
