// The hash by which a repository names a file's content.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace qwen3::client::download {

enum class HashKind { kNone, kSha256, kGitSha1 };

class ContentHash {
 public:
  // `size`: of the whole content; git hashes it before the content. Throws std::bad_alloc.
  ContentHash(HashKind kind, int64_t size);
  ~ContentHash();
  ContentHash(const ContentHash&) = delete;

  void update(std::string_view bytes);
  std::string hex();  // once, at the end; empty for kNone

 private:
  void* context_ = nullptr;  // EVP_MD_CTX*
};

std::string hash_name(HashKind kind);  // "sha256", "git blob sha1"

}  // namespace qwen3::client::download
