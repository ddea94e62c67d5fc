// libFuzzer target: a safetensors header, an index or a config.json of any bytes is refused or read, never a crash.
// The first byte of the input says which. Build and run: tests/fuzz/run.sh SECONDS.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "checkpoint/hf/folder.h"
#include "checkpoint/safetensors.h"
#include "spec/hf_config.h"

namespace {

// One file in a folder of this process, written anew for each input.
std::string path() {
  static const std::string name = [] {
    std::string folder = "/tmp/qwen3-fuzz.XXXXXX";
    if (::mkdtemp(folder.data()) == nullptr) std::abort();
    return folder + "/input";
  }();
  return name;
}

void write(const uint8_t* data, size_t size) {
  const int fd = ::open(path().c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd < 0 || ::write(fd, data, size) != static_cast<ssize_t>(size)) std::abort();
  ::close(fd);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qwen3;
  if (size == 0) return 0;
  const uint8_t kind = data[0] % 3;
  ++data, --size;
  if (kind == 0) {
    (void)spec::parse_hf_config({reinterpret_cast<const char*>(data), size}).ok();
    return 0;
  }
  write(data, size);
  if (kind == 1) {
    const auto header = checkpoint::read_safetensors_header(path());
    if (!header.ok()) return 0;
    for (const auto& [name, entry] : header->tensors) {
      if (entry.begin < 0 || header->data_offset + entry.end > static_cast<int64_t>(size)) std::abort();
    }
    return 0;
  }
  const auto file = checkpoint::InputFile::open(path());
  if (file.ok()) (void)checkpoint::read_hf_index(*file).ok();
  return 0;
}
