#include "client/local/paths.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace qwen3::client::local {
namespace {

// The value of the variable; empty when it is not set.
std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string pointer_file() { return default_dir() + ".current"; }

}  // namespace

std::string default_dir() {
  const std::string state = variable("XDG_STATE_HOME");
  return (state.empty() ? variable("HOME") + "/.local/state" : state) + "/qwen3/local";
}

std::string current_dir() {
  std::ifstream file(pointer_file());
  std::string dir;
  std::getline(file, dir);
  return dir.empty() ? default_dir() : dir;
}

void remember_current_dir(const std::string& dir) {
  const std::filesystem::path pointer = pointer_file();
  std::filesystem::create_directories(pointer.parent_path());
  const std::string fresh = pointer.string() + ".new";
  std::ofstream(fresh) << dir << '\n';
  std::filesystem::rename(fresh, pointer);
}

std::string log_file(const std::string& dir, const std::string& member) { return dir + "/logs/" + member + ".log"; }

}  // namespace qwen3::client::local
