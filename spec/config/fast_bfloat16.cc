#include "spec/config/fast_bfloat16.h"

#include <fstream>
#include <sstream>

#include "absl/strings/str_split.h"

namespace qwen3::spec::config {

bool has_fast_bfloat16(std::string_view cpuinfo) {
  for (absl::string_view line : absl::StrSplit(absl::string_view(cpuinfo.data(), cpuinfo.size()), '\n')) {
    if (line.substr(0, 5) != "flags") continue;
    for (absl::string_view flag : absl::StrSplit(line, ' ')) {
      if (flag == "amx_bf16" || flag == "avx512_bf16") return true;
    }
    return false;  // all cores of a host are alike
  }
  return false;
}

bool host_has_fast_bfloat16() {
  std::ifstream file("/proc/cpuinfo");
  std::ostringstream text;
  text << file.rdbuf();
  return has_fast_bfloat16(text.str());
}

}  // namespace qwen3::spec::config
