// From text files to a token file.
#pragma once
#include <cstdint>
#include <functional>

#include "tokenizer/tokenizer.h"
#include "worker/rank/data/text_files.h"
#include "worker/rank/data/token_file.h"

namespace qwen3::data {

// A stretch of text that cannot be cut (a JSON line, or text without line ends and spaces) may be this long.
inline constexpr int64_t kMaxStretchBytes = int64_t{256} << 20;

// Appends the documents of `file` to `writer`, each with the tokenizer's end-of-text token behind it; documents without
// text are left out. Memory is bounded by kMaxStretchBytes. `progress` gets the bytes of the file read so far.
// Throws std::runtime_error that names file and line: bad UTF-8, bad JSON, a stretch that is too long.
void tokenize_file(const TextFile& file, const tokenizer::Tokenizer& tokenizer, int threads, TokenFileWriter& writer,
                   const std::function<void(int64_t)>& progress);

}  // namespace qwen3::data
