#include "worker/rank/data/token_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "worker/rank/data/text_files.h"
#include "worker/rank/data/tokenize.h"

namespace qwen3::data {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kReportEvery = std::chrono::seconds(2);
constexpr auto kPoll = std::chrono::milliseconds(50);

class Hasher {
 public:
  Hasher() : state_(XXH3_createState(), &XXH3_freeState) {
    if (!state_) throw std::bad_alloc();
    XXH3_128bits_reset(state_.get());
  }
  void add(std::string_view bytes) { XXH3_128bits_update(state_.get(), bytes.data(), bytes.size()); }
  std::string hex() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    char text[33];
    std::snprintf(text, sizeof(text), "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                  static_cast<unsigned long long>(hash.low64));
    return text;
  }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

std::string digest_of_content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::system_error(errno, std::generic_category(), "data file " + path);
  std::vector<char> buffer(4 << 20);
  Hasher hasher;
  while (file) {
    file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    hasher.add({buffer.data(), static_cast<std::size_t>(file.gcount())});
  }
  if (file.bad()) throw std::system_error(errno, std::generic_category(), "data file " + path);
  return hasher.hex();
}

// A large file is hashed once: its digest is kept under a name made of what stat() says of the file.
std::string digest_of_file(const TextFile& file, const std::string& cache_folder) {
  constexpr int64_t kLarge = int64_t{64} << 20;
  struct stat info {};
  if (file.bytes < kLarge || ::stat(file.path.c_str(), &info) != 0) return digest_of_content(file.path);
  Hasher hasher;
  hasher.add(std::filesystem::canonical(file.path).native());
  const int64_t facts[] = {static_cast<int64_t>(info.st_ino),         static_cast<int64_t>(info.st_size),
                           static_cast<int64_t>(info.st_mtim.tv_sec), static_cast<int64_t>(info.st_mtim.tv_nsec),
                           static_cast<int64_t>(info.st_ctim.tv_sec), static_cast<int64_t>(info.st_ctim.tv_nsec)};
  hasher.add({reinterpret_cast<const char*>(facts), sizeof(facts)});
  const std::string memo = cache_folder + "/" + hasher.hex() + ".digest";
  std::string digest;
  if (std::ifstream(memo) >> digest && digest.size() == 32) return digest;
  digest = digest_of_content(file.path);
  const std::string temporary = memo + ".tmp." + std::to_string(::getpid());
  std::ofstream(temporary) << digest << '\n';
  std::error_code ignored;  // without the memo it is hashed again, that is all
  std::filesystem::rename(temporary, memo, ignored);
  return digest;
}

std::string key_of(const std::vector<TextFile>& files, const LineKeys& keys, const std::string& tokenizer_digest,
                   const std::string& cache_folder) {
  Hasher hasher;
  hasher.add("version " + std::to_string(kTokenFileVersion) + " tokenizer " + tokenizer_digest + "\n");
  if (!keys.prompt.empty()) {
    hasher.add("prompt " + std::to_string(keys.prompt.size()) + ":" + keys.prompt + " response " + keys.response +
               "\n");
  }
  for (const TextFile& file : files) {
    const std::string ending = std::filesystem::path(file.path).extension();
    hasher.add((file.jsonl ? "jsonl " : "text ") + ending + " " + digest_of_file(file, cache_folder) + "\n");
  }
  return hasher.hex();
}

LineKeys line_keys(const OpenOptions& options) { return {options.data.prompt_key, options.data.response_key}; }

// An advisory lock that ends with its holder. Its file says how far the holder is.
class LockFile {
 public:
  explicit LockFile(const std::string& path)
      : path_(path), file_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
    if (file_ < 0) throw std::system_error(errno, std::generic_category(), "lock file " + path_);
  }
  ~LockFile() { ::close(file_); }
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  bool try_lock() {
    if (::flock(file_, LOCK_EX | LOCK_NB) == 0) return true;
    if (errno != EWOULDBLOCK && errno != EINTR) {
      throw std::system_error(errno, std::generic_category(), "lock file " + path_);
    }
    return false;
  }
  void say(const std::string& sentence) {
    // Only a report: a failure to write it changes nothing.
    if (::ftruncate(file_, 0) != 0 || ::pwrite(file_, sentence.data(), sentence.size(), 0) < 0) return;
  }
  std::string said() const {
    char text[512];
    const ssize_t got = ::pread(file_, text, sizeof(text), 0);
    return std::string(text, got > 0 ? static_cast<std::size_t>(got) : 0);
  }

 private:
  std::string path_;
  int file_;
};

class Reporter {
 public:
  explicit Reporter(const OpenOptions& options) : progress_(options.progress) {}
  bool due() const { return Clock::now() - last_ >= kReportEvery; }
  void say(const std::string& sentence) {
    last_ = Clock::now();
    if (progress_) progress_(sentence);
  }

 private:
  const std::function<void(const std::string&)>& progress_;
  Clock::time_point last_ = Clock::now();
};

void make_token_file(const std::string& path, const OpenOptions& options, const std::vector<TextFile>& files,
                     const tokenizer::Tokenizer& tokenizer, LockFile& lock, Reporter& reporter) {
  const Clock::time_point start = Clock::now();
  int64_t total = 0;
  for (const TextFile& file : files) total += file.bytes;
  reporter.say("tokenising " + options.data.path + ": " + std::to_string(files.size()) + " files, " +
               std::to_string(total) + " bytes");
  TokenFileWriter writer(path, tokenizer.vocab_size());
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  int64_t done = 0;
  for (const TextFile& file : files) {
    tokenize_file(file, tokenizer, line_keys(options), threads, writer, [&](int64_t consumed) {
      if (!reporter.due()) return;
      const std::string sentence = "tokenising " + options.data.path + ": " + std::to_string(done + consumed) + " of " +
                                   std::to_string(total) + " bytes, " + std::to_string(writer.tokens()) + " tokens";
      lock.say(sentence);
      reporter.say(sentence);
    });
    done += file.bytes;
  }
  writer.finish();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  char text[64];
  std::snprintf(text, sizeof(text), "%lld tokens in %.1f s", static_cast<long long>(writer.tokens()), seconds);
  reporter.say("tokenised " + options.data.path + ": " + text);
}

// Null if the file is not there, or is not whole (a disk that lost power): it is then made again.
std::shared_ptr<const TokenFile> open_if_whole(const std::string& path) {
  if (!std::filesystem::exists(path)) return nullptr;
  try {
    return std::make_shared<const TokenFile>(path);
  } catch (const std::runtime_error&) {
    return nullptr;
  }
}

}  // namespace

std::shared_ptr<const TokenFile> open_token_file(const OpenOptions& options, const tokenizer::Tokenizer& tokenizer) {
  const std::vector<TextFile> files = list_text_files(options.data.path);
  std::error_code error;
  std::filesystem::create_directories(options.cache_folder, error);
  if (error) throw std::system_error(error, "data cache " + options.cache_folder);
  const std::string stem =
      options.cache_folder + "/" + key_of(files, line_keys(options), tokenizer.digest(), options.cache_folder);
  const std::string path = stem + ".tokens";
  if (auto file = open_if_whole(path)) return file;
  LockFile lock(stem + ".lock");
  Reporter reporter(options);
  for (bool waiting = false; !lock.try_lock(); waiting = true) {
    if (!waiting || reporter.due()) reporter.say("waiting for another process: " + lock.said());
    std::this_thread::sleep_for(kPoll);
  }
  if (auto file = open_if_whole(path)) return file;
  make_token_file(path, options, files, tokenizer, lock, reporter);
  return std::make_shared<const TokenFile>(path);
}

}  // namespace qwen3::data
