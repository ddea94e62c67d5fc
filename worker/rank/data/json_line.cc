#include "worker/rank/data/json_line.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>

namespace qwen3::data {
namespace {

using Json = nlohmann::json;
constexpr int kMaxDepth = 64;

std::string quoted(const std::string& key) { return "\"" + key + "\""; }

class StringsReader : public nlohmann::json_sax<Json> {
 public:
  explicit StringsReader(std::span<const std::string> keys) : values(keys.size()), keys_(keys) {}

  std::vector<std::optional<std::string>> values;  // by key
  std::string error;

  bool null() override { return other("null"); }
  bool boolean(bool) override { return other("a boolean"); }
  bool number_integer(number_integer_t) override { return other("a number"); }
  bool number_unsigned(number_unsigned_t) override { return other("a number"); }
  bool number_float(number_float_t, const string_t&) override { return other("a number"); }
  bool binary(binary_t&) override { return other("binary data"); }
  bool string(string_t& value) override {
    if (!wanted_) return other("a string");
    if (values[*wanted_]) return fail(quoted(keys_[*wanted_]) + " occurs twice");
    values[*wanted_] = std::move(value);
    wanted_.reset();
    return true;
  }
  bool key(string_t& name) override {
    wanted_.reset();
    const auto found = std::find(keys_.begin(), keys_.end(), name);
    if (depth_ == 1 && found != keys_.end()) wanted_ = static_cast<size_t>(found - keys_.begin());
    return true;
  }
  bool start_object(std::size_t) override { return open("an object"); }
  bool start_array(std::size_t) override { return open("an array"); }
  bool end_object() override { return --depth_ >= 0; }
  bool end_array() override { return --depth_ >= 0; }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return fail("not JSON from byte " + std::to_string(position) + " on");
  }

 private:
  bool fail(const std::string& what) {
    if (error.empty()) error = what;
    return false;
  }
  bool other(const std::string& kind) {
    if (depth_ == 0) {
      std::string names = quoted(keys_.front());
      for (const std::string& key : keys_.subspan(1)) names += " and a string " + quoted(key);
      return fail("is " + kind + ", wanted an object with a string " + names);
    }
    if (wanted_) return fail(quoted(keys_[*wanted_]) + " is " + kind + ", wanted a string");
    return true;
  }
  bool open(const std::string& kind) {
    if ((depth_ > 0 || kind != "an object") && !other(kind)) return false;
    return ++depth_ <= kMaxDepth || fail("nested deeper than " + std::to_string(kMaxDepth));
  }

  std::span<const std::string> keys_;
  int depth_ = 0;
  std::optional<size_t> wanted_;  // key whose value is next
};

}  // namespace

std::vector<std::string> strings_of_json_line(std::string_view line, std::span<const std::string> keys) {
  StringsReader reader(keys);
  if (!Json::sax_parse(line.begin(), line.end(), &reader)) throw std::runtime_error(reader.error);
  std::vector<std::string> strings;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (!reader.values[i]) throw std::runtime_error("has no " + quoted(keys[i]));
    strings.push_back(*std::move(reader.values[i]));
  }
  return strings;
}

}  // namespace qwen3::data
