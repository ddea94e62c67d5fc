// qwen3ctl: the command line of the training service.
#include <unistd.h>

#include <csignal>
#include <iostream>

#include "client/arguments.h"

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  std::signal(SIGPIPE, SIG_DFL);  // `qwen3ctl logs JOB | head` ends quietly
  return qwen3::client::run_cli(argc, argv, {std::cin, std::cout, std::cerr, isatty(STDERR_FILENO) == 1});
}
