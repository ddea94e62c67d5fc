#include "tokenizer/split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdexcept>
#include <string>

namespace qwen3::tokenizer {

namespace {

// The same pattern for PCRE2, whose \s has U+180E in it where Oniguruma's is White_Space.
constexpr char kPcrePattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\p{White_Space}\p{L}\p{N}]+[\r\n]*)"
    R"(|\p{White_Space}*[\r\n]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+)";

std::string error_text(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

SplitPattern::SplitPattern() {
  int error = 0;
  PCRE2_SIZE where = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(kPcrePattern), PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &error, &where, nullptr);
  if (!code) throw std::runtime_error("split pattern: " + error_text(error));
  jit_ = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0;
  code_ = code;
}

SplitPattern::~SplitPattern() { pcre2_code_free(static_cast<pcre2_code*>(code_)); }

Splitter::Splitter(const SplitPattern& pattern)
    : pattern_(pattern),
      match_(pcre2_match_data_create_from_pattern(static_cast<pcre2_code*>(pattern.code()), nullptr)),
      context_(pcre2_match_context_create(nullptr)),
      stack_(pcre2_jit_stack_create(64 << 10, 1 << 20, nullptr)) {
  if (!match_ || !context_ || !stack_) throw std::bad_alloc();
  pcre2_jit_stack_assign(static_cast<pcre2_match_context*>(context_), nullptr, stack_);
}

Splitter::~Splitter() {
  pcre2_jit_stack_free(static_cast<pcre2_jit_stack*>(stack_));
  pcre2_match_context_free(static_cast<pcre2_match_context*>(context_));
  pcre2_match_data_free(static_cast<pcre2_match_data*>(match_));
}

std::size_t Splitter::word_end(std::string_view text, std::size_t offset) {
  const auto match = pattern_.jit() ? pcre2_jit_match : pcre2_match;
  const int result =
      match(static_cast<pcre2_code*>(pattern_.code()), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), offset,
            PCRE2_NO_UTF_CHECK, static_cast<pcre2_match_data*>(match_), static_cast<pcre2_match_context*>(context_));
  if (result < 0) throw std::runtime_error("split pattern: " + error_text(result));  // every character can match
  return pcre2_get_ovector_pointer(static_cast<pcre2_match_data*>(match_))[1];
}

}  // namespace qwen3::tokenizer
