// The command line of qwen3ctl.
#pragma once
#include "client/context.h"

namespace qwen3::client {

// Parses the arguments, runs the command and returns the exit status (client/exit_code.h).
int run_cli(int argc, const char* const* argv, const Console& console);

}  // namespace qwen3::client
