// Token files in a cache folder: made once, by whichever process comes first.
#pragma once
#include <memory>

#include "tokenizer/tokenizer.h"
#include "worker/rank/data/dataset.h"
#include "worker/rank/data/token_file.h"

namespace qwen3::data {

// The token file of options.data.path under options.cache_folder, named by a digest of (content of the text files,
// tokenizer, format). If it is not there, the process that gets the lock file makes it with all cores; the others wait
// and report the maker's progress. If the maker dies, one of those that wait takes over.
std::shared_ptr<const TokenFile> open_token_file(const OpenOptions& options, const tokenizer::Tokenizer& tokenizer);

}  // namespace qwen3::data
