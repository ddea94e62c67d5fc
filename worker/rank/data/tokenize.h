// From text files to a token file.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "tokenizer/tokenizer.h"
#include "worker/rank/data/text_files.h"
#include "worker/rank/data/token_file.h"

namespace qwen3::data {

// A stretch of text that cannot be cut (a JSON line, or text without line ends and spaces) may be this long.
inline constexpr int64_t kMaxStretchBytes = int64_t{256} << 20;

// What a JSON line is: a text, or with a prompt_key a prompt and the response to train on.
struct LineKeys {
  std::string prompt;    // empty: the text is member "text"
  std::string response;  // used with a prompt
};

// Appends the documents of `file` to `writer`, each with the tokenizer's end-of-text token behind it; documents without
// text are left out. Prompts and responses are encoded apart, so that no token
// reaches over the boundary. Memory is bounded by kMaxStretchBytes. `progress` gets the bytes of the file read so far.
// Throws std::runtime_error that names file and line: bad UTF-8, bad JSON, a missing key, an empty
// response, a stretch that is too long.
void tokenize_file(const TextFile& file, const tokenizer::Tokenizer& tokenizer, const LineKeys& keys, int threads,
                   TokenFileWriter& writer, const std::function<void(int64_t)>& progress);

}  // namespace qwen3::data
