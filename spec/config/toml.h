// TOML -> JobSpec by protobuf reflection: section and key names are the message's. Every mistake is reported at once,
// each with file, line and what is wanted; an unknown key names the nearest valid one.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "qwen3/v1/job_spec.pb.h"

namespace qwen3::spec::config {

// One message for the user, already "FILE:LINE: sentence".
struct ParsedJob {
  v1::JobSpec spec;                   // only what the file (and overrides) set
  std::vector<std::string> errors;    // empty: the spec may be used
  std::vector<std::string> warnings;  // keys accepted without effect
};

// `file` is only a name for messages. `overrides` are "section.key=value" as in qwen3ctl's --set, value in TOML syntax
// or a bare string; they win over the text, and their errors name the override instead of a line.
ParsedJob parse_toml(std::string_view text, const std::string& file, const std::vector<std::string>& overrides = {});

}  // namespace qwen3::spec::config
