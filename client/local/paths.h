// Folders that commands agree on.
#pragma once
#include <string>

namespace qwen3::client::local {

// Of a local service: ${XDG_STATE_HOME:-~/.local/state}/qwen3/local
std::string default_dir();
// Of what set-up fetched (datasets/, tokenizers/): $QWEN3_DATA, else ${QWEN3_DEPS:-~/.cache/qwen3}/data
std::string data_root();
std::string log_file(const std::string& dir, const std::string& member);

}  // namespace qwen3::client::local
