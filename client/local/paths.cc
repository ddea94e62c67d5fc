#include "client/local/paths.h"

#include <cstdlib>

namespace qwen3::client::local {
namespace {

// The value of the variable; empty when it is not set.
std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace

std::string default_dir() {
  const std::string state = variable("XDG_STATE_HOME");
  return (state.empty() ? variable("HOME") + "/.local/state" : state) + "/qwen3/local";
}

std::string data_root() {
  if (const std::string data = variable("QWEN3_DATA"); !data.empty()) return data;
  if (const std::string deps = variable("QWEN3_DEPS"); !deps.empty()) return deps + "/data";
  return variable("HOME") + "/.cache/qwen3/data";
}

std::string log_file(const std::string& dir, const std::string& member) { return dir + "/logs/" + member + ".log"; }

}  // namespace qwen3::client::local
