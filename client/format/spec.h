// A JobSpec as the TOML a user would write, and a Plan as lines of "key: value".
#pragma once
#include <iosfwd>

#include "qwen3/v1/job.pb.h"

namespace qwen3::client {

// Only what is set. Each line begins with `indent`.
void print_spec(std::ostream& out, const v1::JobSpec& spec, const char* indent);
void print_plan(std::ostream& out, const v1::Plan& plan, const char* indent);

}  // namespace qwen3::client
