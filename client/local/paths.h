// Folders that commands agree on.
#pragma once
#include <string>

namespace qwen3::client::local {

// Where a local service lives unless told otherwise: ${XDG_STATE_HOME:-~/.local/state}/qwen3/local
std::string default_dir();
// The folder of the service that was brought up last, which commands talk to; default_dir() when none was.
std::string current_dir();
// Throws std::runtime_error.
void remember_current_dir(const std::string& dir);
std::string log_file(const std::string& dir, const std::string& member);

}  // namespace qwen3::client::local
