#include "client/download/content_hash.h"

#include <openssl/evp.h>

#include <new>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace qwen3::client::download {

ContentHash::ContentHash(HashKind kind, int64_t size) {
  if (kind == HashKind::kNone) return;
  auto* const context = EVP_MD_CTX_new();
  if (context == nullptr) throw std::bad_alloc();
  context_ = context;
  EVP_DigestInit_ex(context, kind == HashKind::kSha256 ? EVP_sha256() : EVP_sha1(), nullptr);
  // As `git hash-object`: "blob SIZE", a zero byte, the content.
  if (kind == HashKind::kGitSha1) update(absl::StrCat("blob ", size, std::string(1, '\0')));
}

ContentHash::~ContentHash() { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context_)); }

void ContentHash::update(std::string_view bytes) {
  if (context_ != nullptr) EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_), bytes.data(), bytes.size());
}

std::string ContentHash::hex() {
  if (context_ == nullptr) return "";
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_), digest, &length);
  return absl::BytesToHexString({reinterpret_cast<const char*>(digest), length});
}

std::string hash_name(HashKind kind) { return kind == HashKind::kSha256 ? "sha256" : "git blob sha1"; }

}  // namespace qwen3::client::download
