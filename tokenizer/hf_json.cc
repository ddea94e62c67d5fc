// tokenizer.json holds 300,000 strings: it is read as a stream of events (SAX), the vocabulary and the merges straight
// to where they belong and every other value, few and small, into a flat map from its path.
#include "tokenizer/hf_json.h"

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/split.h"
#include "tokenizer/unicode.h"

namespace qwen3::tokenizer {
namespace {

using Json = nlohmann::json;
constexpr std::size_t kMaxDepth = 8;
constexpr std::size_t kMaxSettings = 50'000;  // an added token has seven

struct Document {
  std::map<std::string, Json> settings;                // "model.type" -> "BPE"; scalars only
  std::vector<std::pair<std::string, int64_t>> vocab;  // in the alphabet of the file
  std::vector<std::pair<std::string, std::string>> merges;
};

// Any callback that returns false ends the parse with error() set.
class Reader : public nlohmann::json_sax<Json> {
 public:
  explicit Reader(Document& document) : document_(document) {}
  const std::string& error() const { return error_; }

  bool null() override { return scalar(Json()); }
  bool boolean(bool value) override { return scalar(Json(value)); }
  bool number_integer(number_integer_t value) override { return scalar(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > INT64_MAX) return fail(absl::StrCat("number ", value, " is out of range"));
    return scalar(Json(static_cast<int64_t>(value)));
  }
  bool number_float(number_float_t value, const string_t&) override { return scalar(Json(value)); }
  bool string(string_t& value) override { return scalar(Json(std::move(value))); }
  bool binary(binary_t&) override { return fail("binary value"); }
  bool key(string_t& value) override {
    Frame& frame = frames_.back();
    // The vocabulary's own duplicates are found where its tokens are checked.
    if (frame.path != "model.vocab" && !frame.keys.insert(value).second) {
      return fail(absl::StrCat("key \"", printable(value), "\" occurs twice"));
    }
    frame.key = std::move(value);
    return true;
  }
  bool start_object(std::size_t) override { return open(/*array=*/false); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(/*array=*/true); }
  bool end_array() override {
    if (frames_.back().in_merge) {
      if (merge_.size() != 2) return fail(absl::StrCat("a merge of ", merge_.size(), " tokens, wanted 2"));
      document_.merges.emplace_back(std::move(merge_[0]), std::move(merge_[1]));
      merge_.clear();
    }
    return close();
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    if (error_.empty()) error_ = absl::StrCat("not JSON from byte ", position, " on");
    return false;
  }

 private:
  struct Frame {
    bool array = false;
    bool in_merge = false;  // an element of model.merges
    int64_t next = 0;       // index of the next element of an array
    std::string path;
    std::string key;
    std::set<std::string> keys;
  };

  bool fail(std::string message) {
    error_ = std::move(message);
    if (!frames_.empty() && !frames_.back().path.empty()) absl::StrAppend(&error_, ", in ", frames_.back().path);
    return false;
  }

  // Path of the value that comes now.
  std::string here() {
    if (frames_.empty()) return "";
    Frame& frame = frames_.back();
    const std::string last = frame.array ? absl::StrCat(frame.next++) : printable(frame.key);
    return frame.path.empty() ? last : absl::StrCat(frame.path, ".", last);
  }

  bool open(bool array) {
    if (frames_.size() >= kMaxDepth) return fail(absl::StrCat("nested deeper than ", kMaxDepth));
    Frame frame;
    frame.array = array;
    if (!frames_.empty() && frames_.back().path == "model.vocab") return fail("a token without a numeric id");
    if (!frames_.empty() && frames_.back().in_merge) return fail("a merge that holds more than two strings");
    frame.in_merge = !frames_.empty() && frames_.back().path == "model.merges";
    if (frame.in_merge && !array) return fail("a merge that is an object");
    if (!frame.in_merge && ++settings_ > kMaxSettings) return fail("too many values");
    if (!frame.in_merge) frame.path = here();
    if ((frame.path == "model.vocab" && array) || (frame.path == "model.merges" && !array)) {
      return fail(absl::StrCat(frame.path, " is of the wrong kind"));
    }
    frames_.push_back(std::move(frame));
    return true;
  }
  bool close() {
    frames_.pop_back();
    return true;
  }

  bool scalar(Json value) {
    if (frames_.empty()) return fail("not an object");
    Frame& frame = frames_.back();
    if (frame.path == "model.vocab") {
      if (!value.is_number_integer()) return fail(absl::StrCat("token \"", printable(frame.key), "\" has no number"));
      if (document_.vocab.size() >= static_cast<std::size_t>(kMaxTokens)) return fail("too many tokens");
      document_.vocab.emplace_back(std::move(frame.key), value.get<int64_t>());
      return true;
    }
    if (frame.in_merge || frame.path == "model.merges") {
      if (!value.is_string()) return fail("a merge that is not made of strings");
      if (document_.merges.size() >= static_cast<std::size_t>(kMaxTokens)) return fail("too many merges");
      std::string text = std::move(*value.get_ptr<std::string*>());
      if (frame.in_merge) {
        if (merge_.size() == 2) return fail("a merge of more than 2 tokens");
        merge_.push_back(std::move(text));
        return true;
      }
      const std::size_t space = text.find(' ');  // the older form, "left right"
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        return fail(absl::StrCat("merge \"", printable(text), "\", wanted two tokens with a space between"));
      }
      document_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
      return true;
    }
    if (++settings_ > kMaxSettings) return fail("too many values");
    document_.settings.emplace(here(), std::move(value));
    return true;
  }

  Document& document_;
  std::vector<Frame> frames_;
  std::vector<std::string> merge_;
  std::size_t settings_ = 0;
  std::string error_;
};

// The setting, or null.
const Json& setting(const Document& document, const std::string& path) {
  static const Json absent;
  const auto found = document.settings.find(path);
  return found == document.settings.end() ? absent : found->second;
}

absl::Status want(const Document& document, const std::string& path, const Json& wanted, bool may_be_absent = false) {
  const Json& got = setting(document, path);
  if (got == wanted || (may_be_absent && (got.is_null() || got == Json("")))) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, " is ", got.dump(), ", but only Qwen3's ", wanted.dump(), " is supported"));
}

absl::Status check_pipeline(const Document& document) {
  const auto split = [](const std::string& rest) { return "pre_tokenizer.pretokenizers." + rest; };
  const std::pair<std::string, Json> required[] = {
      {"normalizer.type", "NFC"},        {"pre_tokenizer.type", "Sequence"},
      {split("0.type"), "Split"},        {split("0.pattern.Regex"), kSplitPattern},
      {split("0.behavior"), "Isolated"}, {split("0.invert"), false},
      {split("1.type"), "ByteLevel"},    {split("1.add_prefix_space"), false},
      {split("1.use_regex"), false},     {split("2.type"), nullptr},
      {"decoder.type", "ByteLevel"},     {"model.type", "BPE"},
  };
  for (const auto& [path, wanted] : required) {
    if (absl::Status status = want(document, path, wanted); !status.ok()) return status;
  }
  for (const char* path : {"truncation.max_length", "padding.strategy", "model.dropout", "model.unk_token",
                           "model.continuing_subword_prefix", "model.end_of_word_suffix"}) {
    if (absl::Status status = want(document, path, nullptr, /*may_be_absent=*/true); !status.ok()) return status;
  }
  for (const char* path : {"model.byte_fallback", "model.ignore_merges", "model.fuse_unk"}) {
    if (absl::Status status = want(document, path, false, /*may_be_absent=*/true); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status read_added_tokens(const Document& document, Vocabulary& vocabulary) {
  for (int64_t i = 0;; ++i) {
    const std::string path = absl::StrCat("added_tokens.", i);
    const Json& id = setting(document, path + ".id");
    const Json& content = setting(document, path + ".content");
    if (id.is_null() && content.is_null()) return absl::OkStatus();
    if (!id.is_number_integer() || !content.is_string()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": wanted a number \"id\" and a string \"content\""));
    }
    for (const char* flag : {".single_word", ".lstrip", ".rstrip", ".normalized"}) {
      if (absl::Status status = want(document, path + flag, false, /*may_be_absent=*/true); !status.ok()) return status;
    }
    const int64_t number = id.get<int64_t>();
    if (number < 0 || number >= kMaxTokens) {
      return absl::InvalidArgumentError(absl::StrCat(path, ".id is ", number, ", wanted 0 to ", kMaxTokens - 1));
    }
    const Json& special = setting(document, path + ".special");
    vocabulary.added.push_back({static_cast<int32_t>(number), content.get<std::string>(), special == Json(true)});
  }
}

absl::Status read_tokens(const Document& document, Vocabulary& vocabulary,
                         absl::flat_hash_map<std::string, int32_t>& id_of) {
  const auto count = static_cast<int64_t>(document.vocab.size());
  vocabulary.tokens.resize(document.vocab.size());
  for (const auto& [token, id] : document.vocab) {
    if (id < 0 || id >= count) {
      return absl::InvalidArgumentError(absl::StrCat("token \"", printable(token), "\" has id ", id,
                                                     " in a vocabulary of ", count, "; ids must be 0 to ", count - 1));
    }
    std::optional<std::string> bytes = from_byte_alphabet(token);
    if (!bytes || bytes->empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("token \"", printable(token), "\" is not written in the byte-level alphabet"));
    }
    if (!vocabulary.tokens[id].empty()) {
      return absl::InvalidArgumentError(absl::StrCat("tokens \"", printable(vocabulary.tokens[id]), "\" and \"",
                                                     printable(token), "\" both have id ", id));
    }
    if (!id_of.try_emplace(token, static_cast<int32_t>(id)).second) {
      return absl::InvalidArgumentError(absl::StrCat("token \"", printable(token), "\" occurs twice"));
    }
    vocabulary.tokens[id] = *std::move(bytes);
  }
  return absl::OkStatus();
}

absl::Status read_merges(const Document& document, const absl::flat_hash_map<std::string, int32_t>& id_of,
                         Vocabulary& vocabulary) {
  absl::flat_hash_set<std::pair<int32_t, int32_t>> seen;
  for (std::size_t rank = 0; rank < document.merges.size(); ++rank) {
    const auto& [left, right] = document.merges[rank];
    int32_t ids[3];
    const std::string* const names[3] = {&left, &right, nullptr};
    const std::string joined = left + right;
    for (int part = 0; part < 3; ++part) {
      const std::string& name = names[part] ? *names[part] : joined;
      const auto found = id_of.find(name);
      if (found == id_of.end()) {
        return absl::InvalidArgumentError(
            absl::StrCat("model.merges.", rank, ": token \"", printable(name), "\" is not in the vocabulary"));
      }
      ids[part] = found->second;
    }
    if (!seen.emplace(ids[0], ids[1]).second) {
      return absl::InvalidArgumentError(absl::StrCat("model.merges.", rank, ": \"", printable(left), "\" and \"",
                                                     printable(right), "\" are merged before"));
    }
    vocabulary.merges.push_back({ids[0], ids[1], ids[2]});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Vocabulary> parse_hf_json(std::string_view text) {
  if (const auto offset = find_invalid_utf8(text)) {
    return absl::InvalidArgumentError(absl::StrCat("not UTF-8 at byte ", *offset));
  }
  Document document;
  Reader reader(document);
  if (!Json::sax_parse(text.begin(), text.end(), &reader)) return absl::InvalidArgumentError(reader.error());
  Vocabulary vocabulary;
  absl::flat_hash_map<std::string, int32_t> id_of;
  if (absl::Status status = check_pipeline(document); !status.ok()) return status;
  if (absl::Status status = read_added_tokens(document, vocabulary); !status.ok()) return status;
  if (absl::Status status = read_tokens(document, vocabulary, id_of); !status.ok()) return status;
  if (absl::Status status = read_merges(document, id_of, vocabulary); !status.ok()) return status;
  if (absl::Status status = finish(vocabulary); !status.ok()) return status;
  return vocabulary;
}

std::string to_hf_json(const Vocabulary& vocabulary) {
  using Ordered = nlohmann::ordered_json;
  const Ordered byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  Ordered root = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  root["added_tokens"] = Ordered::array();
  for (const AddedToken& token : vocabulary.added) {
    root["added_tokens"].push_back({{"id", token.id},
                                    {"content", token.content},
                                    {"single_word", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"normalized", false},
                                    {"special", token.special}});
  }
  root["normalizer"] = {{"type", "NFC"}};
  const Ordered split = {
      {"type", "Split"}, {"pattern", {{"Regex", kSplitPattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  root["pre_tokenizer"] = {{"type", "Sequence"}};
  root["pre_tokenizer"]["pretokenizers"] = Ordered::array({split, byte_level});
  root["post_processor"] = byte_level;
  root["decoder"] = byte_level;
  root["model"] = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", ""},
                   {"end_of_word_suffix", ""},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"ignore_merges", false}};
  // An ordered object finds a key by a scan: 151,643 of them are written by hand.
  std::string vocab = "{";
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    absl::StrAppend(&vocab, id ? "," : "", Json(to_byte_alphabet(vocabulary.tokens[id])).dump(), ":", id);
  }
  vocab += "}";
  std::string merges = "[";
  for (std::size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const Merge& merge = vocabulary.merges[rank];
    const Json pair = {to_byte_alphabet(vocabulary.tokens[merge.left]),
                       to_byte_alphabet(vocabulary.tokens[merge.right])};
    absl::StrAppend(&merges, rank ? "," : "", pair.dump());
  }
  merges += "]";
  std::string text = root.dump();
  text.resize(text.size() - 2);  // the ends of model and root
  return absl::StrCat(text, ",\"vocab\":", vocab, ",\"merges\":", merges, "}}\n");
}

}  // namespace qwen3::tokenizer
