#include "worker/rank/data/json_line.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>

namespace qwen3::data {
namespace {

using Json = nlohmann::json;
constexpr int kMaxDepth = 64;

class TextReader : public nlohmann::json_sax<Json> {
 public:
  std::optional<std::string> text;
  std::string error;

  bool null() override { return other("null"); }
  bool boolean(bool) override { return other("a boolean"); }
  bool number_integer(number_integer_t) override { return other("a number"); }
  bool number_unsigned(number_unsigned_t) override { return other("a number"); }
  bool number_float(number_float_t, const string_t&) override { return other("a number"); }
  bool binary(binary_t&) override { return other("binary data"); }
  bool string(string_t& value) override {
    if (!is_text_) return other("a string");
    if (text) return fail("\"text\" occurs twice");
    text = std::move(value);
    is_text_ = false;
    return true;
  }
  bool key(string_t& name) override {
    is_text_ = depth_ == 1 && name == "text";
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
    if (depth_ == 0) return fail("is " + kind + ", wanted an object with a string \"text\"");
    if (is_text_) return fail("\"text\" is " + kind + ", wanted a string");
    return true;
  }
  bool open(const std::string& kind) {
    if ((depth_ > 0 || kind != "an object") && !other(kind)) return false;
    return ++depth_ <= kMaxDepth || fail("nested deeper than " + std::to_string(kMaxDepth));
  }

  int depth_ = 0;
  bool is_text_ = false;  // the next value is that of "text"
};

}  // namespace

std::string text_of_json_line(std::string_view line) {
  TextReader reader;
  if (!Json::sax_parse(line.begin(), line.end(), &reader)) throw std::runtime_error(reader.error);
  if (!reader.text) throw std::runtime_error("has no \"text\"");
  return *std::move(reader.text);
}

}  // namespace qwen3::data
