// Where set-up put datasets and tokenizers: the default of every --data-root.
#pragma once
#include <string>

namespace qwen3::spec::config {

// $QWEN3_DATA, else ${QWEN3_DEPS:-~/.cache/qwen3}/data.
std::string default_data_root();

}  // namespace qwen3::spec::config
