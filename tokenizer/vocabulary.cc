#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace qwen3::tokenizer {
namespace {

struct NamedToken {
  const char* content;
  bool special;
};
constexpr NamedToken kQwen3Added[] = {
    {"<|endoftext|>", true},      {"<|im_start|>", true},
    {"<|im_end|>", true},         {"<|object_ref_start|>", true},
    {"<|object_ref_end|>", true}, {"<|box_start|>", true},
    {"<|box_end|>", true},        {"<|quad_start|>", true},
    {"<|quad_end|>", true},       {"<|vision_start|>", true},
    {"<|vision_end|>", true},     {"<|vision_pad|>", true},
    {"<|image_pad|>", true},      {"<|video_pad|>", true},
    {"<tool_call>", false},       {"</tool_call>", false},
    {"<|fim_prefix|>", false},    {"<|fim_middle|>", false},
    {"<|fim_suffix|>", false},    {"<|fim_pad|>", false},
    {"<|repo_name|>", false},     {"<|file_sep|>", false},
    {"<tool_response>", false},   {"</tool_response>", false},
    {"<think>", false},           {"</think>", false},
};

absl::Status check_tokens(const Vocabulary& vocabulary) {
  const auto count = static_cast<int64_t>(vocabulary.tokens.size());
  if (count > kMaxTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("vocabulary has ", count, " tokens, at most ", kMaxTokens, " are accepted"));
  }
  std::unordered_set<std::string_view> seen;
  seen.reserve(vocabulary.tokens.size());
  for (int64_t id = 0; id < count; ++id) {
    const std::string& token = vocabulary.tokens[id];
    if (token.empty()) return absl::InvalidArgumentError(absl::StrCat("token ", id, " is empty"));
    if (static_cast<int64_t>(token.size()) > kMaxTokenBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", id, " has ", token.size(), " bytes, at most ", kMaxTokenBytes, " are accepted"));
    }
    if (!seen.insert(token).second) {
      return absl::InvalidArgumentError(absl::StrCat("token \"", printable(token), "\" occurs twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status check_added(const Vocabulary& vocabulary) {
  if (static_cast<int64_t>(vocabulary.added.size()) > kMaxAddedTokens) {
    return absl::InvalidArgumentError(absl::StrCat("there are ", vocabulary.added.size(), " added tokens, at most ",
                                                   kMaxAddedTokens, " are accepted"));
  }
  std::unordered_set<std::string_view> contents;
  int64_t last_id = static_cast<int64_t>(vocabulary.tokens.size()) - 1;
  for (const AddedToken& token : vocabulary.added) {
    const std::string name = absl::StrCat("added token \"", printable(token.content), "\"");
    if (token.content.empty() || static_cast<int64_t>(token.content.size()) > kMaxAddedTokenBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " has ", token.content.size(), " bytes, wanted 1 to ", kMaxAddedTokenBytes));
    }
    if (!contents.insert(token.content).second) return absl::InvalidArgumentError(absl::StrCat(name, " occurs twice"));
    if (token.id <= last_id) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " has id ", token.id, ", which another token has; the first free one is ", last_id + 1));
    }
    if (token.id >= kMaxTokens) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " has id ", token.id, ", at most ", kMaxTokens - 1, " is accepted"));
    }
    last_id = token.id;
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<AddedToken> qwen3_added_tokens(int32_t first_id) {
  std::vector<AddedToken> tokens;
  for (const NamedToken& token : kQwen3Added) tokens.push_back({first_id++, token.content, token.special});
  return tokens;
}

absl::Status finish(Vocabulary& vocabulary) {
  std::sort(vocabulary.added.begin(), vocabulary.added.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  if (absl::Status status = check_tokens(vocabulary); !status.ok()) return status;
  if (absl::Status status = check_added(vocabulary); !status.ok()) return status;
  vocabulary.byte_ids.fill(-1);
  for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.tokens.size()); ++id) {
    const std::string& token = vocabulary.tokens[id];
    if (token.size() == 1) vocabulary.byte_ids[static_cast<unsigned char>(token[0])] = id;
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (vocabulary.byte_ids[byte] < 0) {
      return absl::InvalidArgumentError(
          absl::StrFormat("there is no token for the single byte 0x%02X; a byte-level vocabulary has all 256", byte));
    }
  }
  return absl::OkStatus();
}

std::string printable(std::string_view token) {
  constexpr std::size_t kShown = 40;
  std::string text;
  for (const char c : token.substr(0, kShown)) {
    if (c >= 0x20 && c < 0x7F) {
      text += c;
    } else {
      absl::StrAppendFormat(&text, "\\x%02X", static_cast<unsigned char>(c));
    }
  }
  if (token.size() > kShown) text += "...";
  return text;
}

}  // namespace qwen3::tokenizer
