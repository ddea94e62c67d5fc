#include "tokenizer/tokenizer.h"

#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/hf_json.h"
#include "tokenizer/split.h"
#include "tokenizer/tiktoken_file.h"
#include "tokenizer/unicode.h"
#include "tokenizer/vocabulary.h"
#include "tokenizer/word_cache.h"

namespace qwen3::tokenizer {
namespace {

constexpr std::size_t kPieceBytes = 256 << 10;   // what one thread takes of a long text at a time
constexpr std::size_t kMaxTextBytes = 1u << 30;  // positions within a text are 32 bits wide

absl::StatusOr<std::string> read_file(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return absl::NotFoundError(absl::StrCat("tokenizer ", path, ": ", std::strerror(errno)));
  }
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(absl::StrCat("tokenizer ", path, ": not a file"));
  if (info.st_size > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer ", path, ": ", info.st_size, " bytes, at most ", kMaxFileBytes, " are accepted"));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  if (!file.read(text.data(), info.st_size)) {
    return absl::UnavailableError(absl::StrCat("tokenizer ", path, ": cannot read ", info.st_size, " bytes"));
  }
  return text;
}

std::string digest_of(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
}

}  // namespace

struct Tokenizer::Impl {
  // What one thread needs while it encodes.
  struct Worker {
    explicit Worker(const Impl& impl) : bpe(impl.merges, impl.vocabulary.byte_ids) {}
    Bpe bpe;
    WordCache cache;
    std::string normalized;
  };

  explicit Impl(Vocabulary v) : vocabulary(std::move(v)), merges(vocabulary.merges.size()), finder(vocabulary.added) {
    int32_t rank = 0;
    for (const Merge& merge : vocabulary.merges) merges.insert(merge.left, merge.right, rank++, merge.result);
    for (const AddedToken& token : vocabulary.added) {
      if (token.content == "<|endoftext|>") eos_id = token.id;
      // A cut is made only in front of a character that follows one of these.
      if (token.content.find_first_of(" \n") != std::string::npos) cuttable = false;
    }
  }

  std::unique_ptr<Worker> take_worker() const {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!idle.empty()) {
        std::unique_ptr<Worker> worker = std::move(idle.back());
        idle.pop_back();
        return worker;
      }
    }
    return std::make_unique<Worker>(*this);
  }
  void give_back(std::unique_ptr<Worker> worker) const {
    const std::lock_guard<std::mutex> lock(mutex);
    idle.push_back(std::move(worker));
  }

  // ids[i] = encoding of pieces[i], valid UTF-8, on up to `threads` threads.
  absl::StatusOr<std::vector<std::vector<int32_t>>> encode_pieces(std::span<const std::string_view> pieces,
                                                                  int threads) const {
    std::vector<std::vector<int32_t>> ids(pieces.size());
    std::atomic<std::size_t> next{0};
    std::mutex failure_mutex;  // guards failure
    absl::Status failure;
    const auto work = [&] {
      try {
        std::unique_ptr<Worker> worker = take_worker();
        for (std::size_t i; (i = next.fetch_add(1)) < pieces.size();) encode_piece(pieces[i], *worker, ids[i]);
        give_back(std::move(worker));
      } catch (const std::exception& e) {  // no memory
        const std::lock_guard<std::mutex> lock(failure_mutex);
        failure = absl::ResourceExhaustedError(absl::StrCat("cannot encode: ", e.what()));
      }
    };
    {
      std::vector<std::jthread> helpers;
      const std::size_t wanted = std::min(pieces.size(), static_cast<std::size_t>(std::max(1, threads)));
      for (std::size_t i = 1; i < wanted; ++i) helpers.emplace_back(work);
      work();
    }
    if (!failure.ok()) return failure;
    return ids;
  }

  // Text without added tokens.
  void encode_plain(std::string_view text, Worker& worker, std::vector<int32_t>& ids) const {
    text = to_nfc(text, worker.normalized);
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = word_end(text, begin);
      const std::string_view word = text.substr(begin, end - begin);
      begin = end;
      if (worker.cache.append_to(word, ids)) continue;
      const std::size_t before = ids.size();
      worker.bpe.encode(word, ids);
      worker.cache.put(word, std::span<const int32_t>(ids).subspan(before));
    }
  }

  // Valid UTF-8.
  void encode_piece(std::string_view text, Worker& worker, std::vector<int32_t>& ids) const {
    for (std::size_t offset = 0; offset < text.size();) {
      const AddedTokenFinder::Match match = finder.find(text, offset);
      if (match.id < 0) return encode_plain(text.substr(offset), worker, ids);
      encode_plain(text.substr(offset, match.begin - offset), worker, ids);
      ids.push_back(match.id);
      offset = match.end;
    }
  }

  // Whether the encoding falls apart at `at`, 0 < at < size: no word, no composition and no added
  // token reaches over the end of a line that is followed by something to see, nor over a space between ASCII letters.
  bool safe_to_cut(std::string_view text, std::size_t at) const {
    const auto ascii_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    if (text[at - 1] == '\n') {
      const char32_t next = next_character(text, at);
      return !is_white_space(next) && starts_normalized(next);
    }
    return text[at] == ' ' && ascii_letter(text[at - 1]) && at + 1 < text.size() && ascii_letter(text[at + 1]);
  }

  std::vector<std::string_view> cut(std::string_view text) const {
    std::vector<std::string_view> pieces;
    while (cuttable && text.size() > 2 * kPieceBytes) {
      std::size_t at = kPieceBytes;
      while (at + 4 < text.size() && !safe_to_cut(text, at)) ++at;
      if (at + 4 >= text.size()) break;
      pieces.push_back(text.substr(0, at));
      text.remove_prefix(at);
    }
    pieces.push_back(text);
    return pieces;
  }

  absl::Status check_text(std::string_view text) const {
    if (text.size() > kMaxTextBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("text of ", text.size(), " bytes, at most ", kMaxTextBytes, " are accepted at once"));
    }
    if (const auto offset = find_invalid_utf8(text)) {
      return absl::InvalidArgumentError(absl::StrFormat("text is not UTF-8: byte 0x%02X at offset %d",
                                                        static_cast<unsigned char>(text[*offset]), *offset));
    }
    return absl::OkStatus();
  }

  Vocabulary vocabulary;
  MergeTable merges;
  AddedTokenFinder finder;
  std::string digest;
  int32_t eos_id = -1;
  bool cuttable = true;
  mutable std::mutex mutex;  // guards idle
  mutable std::vector<std::unique_ptr<Worker>> idle;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

absl::StatusOr<Tokenizer> Tokenizer::load(const std::string& path) {
  absl::StatusOr<std::string> text = read_file(path);
  if (!text.ok()) return text.status();
  absl::StatusOr<Vocabulary> vocabulary;
  if (path.ends_with(".tiktoken")) {
    vocabulary = parse_tiktoken(*text);
  } else if (path.ends_with(".json")) {
    vocabulary = parse_hf_json(*text);
  } else {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer ", path, ": wanted a .tiktoken or tokenizer.json file"));
  }
  if (!vocabulary.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer ", path, ": ", vocabulary.status().message()));
  }
  auto impl = std::make_unique<Impl>(*std::move(vocabulary));
  if (impl->eos_id < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer ", path, ": has no added token \"<|endoftext|>\", which ends a document"));
  }
  impl->digest = digest_of(*text);
  return Tokenizer(std::move(impl));
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::encode(std::string_view text, int threads) const {
  if (absl::Status status = impl_->check_text(text); !status.ok()) return status;
  const std::vector<std::string_view> pieces = threads > 1 ? impl_->cut(text) : std::vector<std::string_view>{text};
  absl::StatusOr<std::vector<std::vector<int32_t>>> parts = impl_->encode_pieces(pieces, threads);
  if (!parts.ok()) return parts.status();
  std::vector<int32_t> ids = std::move(parts->front());
  for (std::size_t i = 1; i < parts->size(); ++i) ids.insert(ids.end(), (*parts)[i].begin(), (*parts)[i].end());
  return ids;
}

absl::StatusOr<std::vector<std::vector<int32_t>>> Tokenizer::encode_batch(std::span<const std::string_view> texts,
                                                                          int threads) const {
  std::vector<std::string_view> pieces;
  std::vector<std::size_t> first_piece;  // of each text
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (absl::Status status = impl_->check_text(texts[i]); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("text ", i, ": ", status.message()));
    }
    first_piece.push_back(pieces.size());
    const std::vector<std::string_view> cut = impl_->cut(texts[i]);
    pieces.insert(pieces.end(), cut.begin(), cut.end());
  }
  first_piece.push_back(pieces.size());
  absl::StatusOr<std::vector<std::vector<int32_t>>> parts = impl_->encode_pieces(pieces, threads);
  if (!parts.ok()) return parts.status();
  std::vector<std::vector<int32_t>> result(texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    result[i] = std::move((*parts)[first_piece[i]]);
    for (std::size_t piece = first_piece[i] + 1; piece < first_piece[i + 1]; ++piece) {
      result[i].insert(result[i].end(), (*parts)[piece].begin(), (*parts)[piece].end());
    }
  }
  return result;
}

absl::StatusOr<std::string> Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  const std::vector<std::string>& tokens = impl_->vocabulary.tokens;
  const std::vector<AddedToken>& added = impl_->vocabulary.added;
  std::string bytes;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const int32_t id = ids[i];
    if (id >= 0 && id < static_cast<int32_t>(tokens.size())) {
      bytes += tokens[id];
      continue;
    }
    const auto token = std::lower_bound(added.begin(), added.end(), id,
                                        [](const AddedToken& a, int32_t wanted) { return a.id < wanted; });
    if (token == added.end() || token->id != id) {
      return absl::InvalidArgumentError(
          absl::StrCat("token id ", id, " at index ", i, " is not in the vocabulary of ", vocab_size(), " tokens"));
    }
    if (!(skip_special && token->special)) bytes += token->content;
  }
  return find_invalid_utf8(bytes) ? replace_invalid_utf8(bytes) : std::move(bytes);
}

std::size_t Tokenizer::last_safe_cut(std::string_view text) const {
  if (!impl_->cuttable) return 0;
  // The character behind the cut must be whole, and the last three bytes may be the begin of a longer one.
  for (std::size_t at = text.size() < 4 ? 0 : text.size() - 4; at > 0; --at) {
    if (impl_->safe_to_cut(text, at)) return at;
  }
  return 0;
}

int64_t Tokenizer::vocab_size() const {
  return impl_->vocabulary.added.empty() ? static_cast<int64_t>(impl_->vocabulary.tokens.size())
                                         : impl_->vocabulary.added.back().id + int64_t{1};
}
int32_t Tokenizer::eos_id() const { return impl_->eos_id; }
const std::string& Tokenizer::digest() const { return impl_->digest; }
const Vocabulary& Tokenizer::vocabulary() const { return impl_->vocabulary; }

}  // namespace qwen3::tokenizer
