// A TOML file all the way to a spec that may be used: parse, defaults, checks.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "spec/config/job_spec.h"
#include "spec/config/toml.h"

namespace qwen3::spec::config {

// parse_toml, make_paths_absolute (seen from `base`), fill_defaults and check as one: every mistake of the text and
// every broken rule as "FILE:LINE: sentence", in the order of the lines. The spec has its defaults.
ParsedJob load_job(std::string_view text, const std::string& file, const std::string& base,
                   const std::vector<std::string>& overrides, const Environment& environment);

}  // namespace qwen3::spec::config
