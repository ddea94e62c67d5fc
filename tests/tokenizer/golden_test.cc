// Against Hugging Face's `tokenizers`: tests/golden/make_tokenizer_goldens.py says how the file is made.
#include <gtest/gtest.h>
#include <zlib.h>

#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "tests/tokenizer/vocabulary_file.h"
#include "tokenizer/tokenizer.h"

namespace qwen3::tokenizer {
namespace {

using Json = nlohmann::json;
using Rows = std::map<std::string, std::vector<Json>>;  // by kind

const Rows& golden() {
  static const Rows rows = [] {
    const std::string path = QWEN3_SOURCE_DIR "/tests/golden/tokenizer_qwen3.jsonl.gz";
    const gzFile file = gzopen(path.c_str(), "rb");
    if (!file) throw std::runtime_error("cannot open " + path);
    std::string text;
    std::vector<char> buffer(1 << 20);
    for (int got; (got = gzread(file, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0;) {
      text.append(buffer.data(), got);
    }
    gzclose(file);
    Rows result;
    std::vector<Json>* kind = nullptr;
    for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
      Json row = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                             text.begin() + static_cast<std::ptrdiff_t>(end));
      if (row.is_array()) {
        kind->push_back(std::move(row));
      } else if (row.contains("kind")) {
        kind = &result[row["kind"]];
      }
    }
    return result;
  }();
  return rows;
}

TEST(TokenizerGolden, EncodesAndDecodesEveryStringAsHuggingFace) {
  const std::vector<Json>& rows = golden().at("encode");
  ASSERT_GE(rows.size(), 10000u);
  int64_t different = 0;
  for (const Json& row : rows) {
    const auto text = row[0].get<std::string>();
    const auto ids = row[1].get<std::vector<int32_t>>();
    const std::string decoded = row.size() > 2 ? row[2].get<std::string>() : text;
    const bool same = qwen3().encode(text).value() == ids && qwen3().decode(ids).value() == decoded;
    if (!same && ++different <= 5) ADD_FAILURE() << row[0].dump(-1, ' ', true) << ": want " << row[1].dump();
  }
  EXPECT_EQ(different, 0);
}

TEST(TokenizerGolden, DecodesHalfCharactersAndSpecialTokensAsHuggingFace) {
  for (const Json& row : golden().at("decode")) {
    const auto ids = row[0].get<std::vector<int32_t>>();
    EXPECT_EQ(qwen3().decode(ids, /*skip_special=*/row[1]).value(), row[2].get<std::string>()) << row[0].dump();
  }
}

std::string utf8(char32_t c) {
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
  if (c < 0x10000) {
    return {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
            static_cast<char>(0x80 | (c & 0x3F))};
  }
  return {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)),
          static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
}

TEST(TokenizerGolden, EveryUnicodeCharacterIsClassifiedAndNormalisedAsByHuggingFace) {
  constexpr char32_t kBlock = 4096;
  for (const Json& row : golden().at("sweep")) {
    const Json& wanted = row.back();
    for (std::size_t block = 0; block < wanted.size(); ++block) {
      uLong crc = crc32(0, nullptr, 0);
      for (auto c = static_cast<char32_t>(block * kBlock); c < (block + 1) * kBlock; ++c) {
        if (c >= 0xD800 && c <= 0xDFFF) continue;
        std::string text = row[0].get<std::string>();
        for (std::size_t piece = 1; piece + 1 < row.size(); ++piece) text += utf8(c) + row[piece].get<std::string>();
        const std::vector<int32_t> ids = qwen3().encode(text).value();
        crc = crc32(crc, reinterpret_cast<const Bytef*>(ids.data()), static_cast<uInt>(ids.size() * sizeof(int32_t)));
      }
      EXPECT_EQ(crc, wanted[block].get<uLong>())
          << "U+" << std::hex << block * kBlock << " and the 4,095 behind it, in " << row[0];
    }
  }
}

}  // namespace
}  // namespace qwen3::tokenizer
