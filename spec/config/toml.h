// TOML -> JobSpec by protobuf reflection: section and key names are the message's. Every mistake is reported at once,
// each with file, line and what is wanted; an unknown key names the nearest valid one.
#pragma once
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3/v1/job_spec.pb.h"

namespace qwen3::spec::config {

// Messages are for the user, already "FILE:LINE: sentence", in the order of the lines.
struct ParsedJob {
  v1::JobSpec spec;                   // only what the file (and overrides) set
  std::vector<std::string> errors;    // empty: the spec may be used
  std::vector<std::string> warnings;  // keys accepted without effect
  bool syntax_error = false;          // the text is not TOML: its one error says why, and `spec` is empty

  // Where something was written: field path ("training.steps") or section ("training") -> "FILE:LINE", or
  // "--set training.steps=5".
  std::map<std::string, std::string> places;
  std::set<std::string> bad_fields;  // fields whose value is among the errors, so that they are absent from `spec`
  std::string file;

  // Where to point for a violation of `field` (spec/rules.h): the key, else its section, else the file's first line.
  std::string locate(const std::string& field) const;
};

// `file` is only a name for messages. `overrides` are "section.key=value" as in qwen3ctl's --set, value in TOML syntax
// or a bare string; they win over the text, and their errors name the override instead of a line.
ParsedJob parse_toml(std::string_view text, const std::string& file, const std::vector<std::string>& overrides = {});

}  // namespace qwen3::spec::config
