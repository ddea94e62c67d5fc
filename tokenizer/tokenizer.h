// The byte-level BPE tokenizer of Qwen3: text in UTF-8 to token ids and back, id for id what Hugging Face's
// `tokenizers` gives for Qwen3's tokenizer.json.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace qwen3::tokenizer {

struct Vocabulary;  // tokenizer/vocabulary.h

// Immutable after load; every method may be called from several threads at once.
class Tokenizer {
 public:
  // Reads an HF tokenizer.json (Qwen3's pipeline only: NFC, its split pattern, byte-level BPE) or a .tiktoken file
  // ("base64 rank" lines, to which Qwen3's 26 added tokens are appended). The name's ending decides.
  static absl::StatusOr<Tokenizer> load(const std::string& path);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Added tokens in the text ("<|im_start|>") become their ids, as in HF. No token is put in front or behind.
  // InvalidArgument names the byte offset where the text is not UTF-8. A long text is cut at safe places and
  // encoded by up to `threads` threads; the ids do not depend on `threads`.
  absl::StatusOr<std::vector<int32_t>> encode(std::string_view text, int threads = 1) const;

  // As encode() of each text. The error of the first bad text, with its index in front.
  absl::StatusOr<std::vector<std::vector<int32_t>>> encode_batch(std::span<const std::string_view> texts,
                                                                 int threads) const;

  // The text of the ids; bytes that are not UTF-8 (half a character) become U+FFFD, as in HF. Added tokens with HF's
  // flag "special" are left out if skip_special. InvalidArgument names an id outside the vocabulary.
  absl::StatusOr<std::string> decode(std::span<const int32_t> ids, bool skip_special = false) const;

  // The largest p such that encode(text) is encode(text[0, p)) followed by encode(text[p, end)), whatever text is
  // appended later; 0 if none is known. `text` must be valid UTF-8. For texts read in pieces.
  std::size_t last_safe_cut(std::string_view text) const;

  // Largest id + 1, added tokens included. The model's vocabulary may be larger (padding), never smaller.
  int64_t vocab_size() const;
  // "<|endoftext|>", which ends a document in pretraining.
  int32_t eos_id() const;
  // XXH3-128 of the file it was loaded from, in hex.
  const std::string& digest() const;
  const Vocabulary& vocabulary() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace qwen3::tokenizer
