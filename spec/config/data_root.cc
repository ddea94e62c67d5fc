#include "spec/config/data_root.h"

#include <cstdlib>

namespace qwen3::spec::config {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

std::string default_data_root() {
  if (std::string data = variable("QWEN3_DATA"); !data.empty()) return data;
  if (const std::string deps = variable("QWEN3_DEPS"); !deps.empty()) return deps + "/data";
  return variable("HOME") + "/.cache/qwen3/data";
}

}  // namespace qwen3::spec::config
