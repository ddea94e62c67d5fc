#include <cstdlib>
#include <istream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string_view>
#include <thread>

#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "spec/config/data_root.h"
#include "tokenizer/tokenizer.h"

namespace qwen3::client {
namespace {

using nlohmann::json;

constexpr size_t kBatchBytes = 8 << 20;  // input held at once; large enough to keep all cores busy

struct Batch {
  std::vector<std::string> lines;
  int64_t first_line = 1;  // its number, from 1
};

// Up to kBatchBytes of lines; empty at the end of the input.
Batch read_batch(std::istream& in, int64_t first_line) {
  Batch batch{.first_line = first_line};
  size_t bytes = 0;
  for (std::string line; bytes < kBatchBytes && std::getline(in, line);) {
    bytes += line.size();
    batch.lines.push_back(std::move(line));
  }
  return batch;
}

absl::Status bad_line(int64_t line, std::string_view wanted, std::string_view got) {
  return absl::InvalidArgumentError(absl::StrCat("line ", line, " of the input: want ", std::string(wanted), ", got ",
                                                 std::string(got.substr(0, 60)), got.size() > 60 ? "..." : ""));
}

absl::Status encode(const tokenizer::Tokenizer& tokenizer, const Batch& batch, std::ostream& out) {
  std::vector<std::string> texts;
  for (size_t i = 0; i < batch.lines.size(); ++i) {
    const json value = json::parse(batch.lines[i], nullptr, /*allow_exceptions=*/false);
    if (!value.is_string()) return bad_line(batch.first_line + i, "a JSON string", batch.lines[i]);
    texts.push_back(value.get<std::string>());
  }
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const auto ids = tokenizer.encode_batch(views, threads);
  if (!ids.ok()) return ids.status();
  std::string text;
  for (const std::vector<int32_t>& line : *ids) {
    text += '[';
    for (size_t i = 0; i < line.size(); ++i) absl::StrAppend(&text, i == 0 ? "" : ",", line[i]);
    text += "]\n";
  }
  out << text;
  return absl::OkStatus();
}

absl::Status decode(const tokenizer::Tokenizer& tokenizer, const Batch& batch, std::ostream& out) {
  for (size_t i = 0; i < batch.lines.size(); ++i) {
    const json value = json::parse(batch.lines[i], nullptr, /*allow_exceptions=*/false);
    std::vector<int32_t> ids;
    bool good = value.is_array();
    for (size_t k = 0; good && k < value.size(); ++k) {
      good = value[k].is_number_integer() && value[k].get<int64_t>() >= 0 && value[k].get<int64_t>() <= INT32_MAX;
      if (good) ids.push_back(value[k].get<int32_t>());
    }
    if (!good) return bad_line(batch.first_line + i, "a JSON array of token ids", batch.lines[i]);
    const auto text = tokenizer.decode(ids);
    if (!text.ok()) {
      return absl::Status(text.status().code(), absl::StrCat("line ", batch.first_line + i,
                                                             " of the input: ", std::string(text.status().message())));
    }
    out << json(*text).dump(-1, ' ', false, json::error_handler_t::replace) << '\n';
  }
  return absl::OkStatus();
}

}  // namespace

Result tokenize(Context& context, const TokenizeOptions& options) {
  const std::string file = options.tokenizer.empty()
                               ? absl::StrCat(spec::config::default_data_root(), "/tokenizers/qwen3.tiktoken")
                               : options.tokenizer;
  const auto tokenizer = tokenizer::Tokenizer::load(file);
  if (!tokenizer.ok()) return tokenizer.status();
  int64_t line = 1;
  while (true) {
    const Batch batch = read_batch(context.console.in, line);
    if (batch.lines.empty()) return 0;
    line += static_cast<int64_t>(batch.lines.size());
    const absl::Status status =
        options.decode ? decode(*tokenizer, batch, context.out()) : encode(*tokenizer, batch, context.out());
    if (!status.ok()) return status;
  }
}

}  // namespace qwen3::client
