// A folder that exists as long as the object: the one way in which tests make theirs.
#pragma once
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace qwen3::tests {

class TemporaryFolder {
 public:
  // Below $TMPDIR, else /tmp. `name` tells whose it is when a test was killed.
  explicit TemporaryFolder(const std::string& name = "test")
      : path_((std::filesystem::temp_directory_path() / ("qwen3-" + name + "-XXXXXX")).string()) {
    if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("cannot make a folder like " + path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace qwen3::tests
