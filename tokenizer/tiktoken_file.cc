#include "tokenizer/tiktoken_file.h"

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tokenizer/bpe.h"

namespace qwen3::tokenizer {
namespace {

absl::Status parse_line(std::string_view line, Vocabulary& vocabulary) {
  const std::size_t space = line.find(' ');
  int64_t rank = 0;
  std::string token;
  if (space == std::string_view::npos || !absl::Base64Unescape(absl::string_view(line.data(), space), &token) ||
      !absl::SimpleAtoi(absl::string_view(line.data() + space + 1, line.size() - space - 1), &rank)) {
    return absl::InvalidArgumentError(
        absl::StrCat("got \"", printable(line), "\", wanted a token in base64, a space and its rank"));
  }
  if (rank != static_cast<int64_t>(vocabulary.tokens.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("got rank ", rank, ", wanted ", vocabulary.tokens.size(), "; ranks count from 0 in order"));
  }
  if (rank >= kMaxTokens) return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxTokens, " tokens"));
  vocabulary.tokens.push_back(std::move(token));
  return absl::OkStatus();
}

absl::Status derive_merges(Vocabulary& vocabulary) {
  MergeTable table(vocabulary.tokens.size());
  Bpe bpe(table, vocabulary.byte_ids);
  std::vector<int32_t> parts;
  for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.tokens.size()); ++id) {
    const std::string& token = vocabulary.tokens[id];
    if (token.size() == 1) continue;
    parts.clear();
    bpe.encode(token, parts);
    if (parts.size() != 2) {
      return absl::InvalidArgumentError(absl::StrCat("line ", id + 1, ": token \"", printable(token), "\" falls into ",
                                                     parts.size(),
                                                     " tokens of the lines before it, wanted 2 that merge to it"));
    }
    table.insert(parts[0], parts[1], static_cast<int32_t>(vocabulary.merges.size()), id);
    vocabulary.merges.push_back({parts[0], parts[1], id});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Vocabulary> parse_tiktoken(std::string_view text) {
  Vocabulary vocabulary;
  for (int64_t line = 1; !text.empty(); ++line) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (absl::Status status = parse_line(text.substr(0, end), vocabulary); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("line ", line, ": ", status.message()));
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  vocabulary.added = qwen3_added_tokens(static_cast<int32_t>(vocabulary.tokens.size()));
  if (absl::Status status = finish(vocabulary); !status.ok()) return status;
  if (absl::Status status = derive_merges(vocabulary); !status.ok()) return status;
  return vocabulary;
}

}  // namespace qwen3::tokenizer
