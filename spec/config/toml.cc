#include "spec/config/toml.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "spec/config/keys.h"

namespace qwen3::spec::config {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

std::string quoted(std::string_view text) { return absl::StrCat("\"", std::string(text), "\""); }

// A value as a user would write it: true, 5, 2.5, "text", ["a", "b"].
std::string render(const toml::node& node) {
  if (const auto* text = node.as_string()) return quoted(text->get());
  if (const auto* flag = node.as_boolean()) return flag->get() ? "true" : "false";
  if (const auto* number = node.as_integer()) return absl::StrCat(number->get());
  if (const auto* number = node.as_floating_point()) {
    const std::string digits = absl::StrCat(number->get());
    return digits.find_first_of(".en") == std::string::npos ? digits + ".0" : digits;  // 1e3 is not the integer 1000
  }
  if (const auto* array = node.as_array()) {
    std::vector<std::string> parts;
    for (const toml::node& element : *array) parts.push_back(render(element));
    return absl::StrCat("[", absl::StrJoin(parts, ", "), "]");
  }
  return node.is_table() ? "a table" : "a date or time";
}

std::string describe(const toml::node& node) {
  if (node.is_string()) return absl::StrCat("the string ", render(node));
  if (node.is_array()) return absl::StrCat("the array ", render(node));
  return render(node);
}

// Levenshtein distance.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

// REQUIRES: names is not empty.
std::string nearest(std::string_view name, const std::vector<std::string>& names) {
  return *std::min_element(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
    return edit_distance(name, a) < edit_distance(name, b);
  });
}

// "training.steps" -> {"training", "steps"}; "training.dataloader.x" -> {"training.dataloader", "x"}.
std::pair<std::string, std::string> split_path(const std::string& path) {
  const size_t dot = path.rfind('.');
  if (dot == std::string::npos) return {"", path};
  return {path.substr(0, dot), path.substr(dot + 1)};
}

// Names of the sections: JobSpec's, then those that only torchtitan has.
std::vector<std::string> section_names() {
  std::vector<std::string> names;
  const Descriptor* job = v1::JobSpec::descriptor();
  for (int i = 0; i < job->field_count(); ++i) names.push_back(job->field(i)->name());
  for (const TorchtitanKey& key : torchtitan_keys()) {
    const std::string section = split_path(std::string(key.path)).first;
    if (std::find(names.begin(), names.end(), section) == names.end()) names.push_back(section);
  }
  return names;
}

const Descriptor* section_descriptor(const std::string& section) {
  const FieldDescriptor* field = v1::JobSpec::descriptor()->FindFieldByName(section);
  return field == nullptr ? nullptr : field->message_type();
}

// Keys of a section that may be written: JobSpec's, or torchtitan's where the section is only torchtitan's.
std::vector<std::string> key_names(const std::string& section) {
  std::vector<std::string> names;
  if (const Descriptor* descriptor = section_descriptor(section)) {
    for (int i = 0; i < descriptor->field_count(); ++i) names.push_back(descriptor->field(i)->name());
    return names;
  }
  for (const TorchtitanKey& key : torchtitan_keys()) {
    const auto [parent, name] = split_path(std::string(key.path));
    if (parent == section) names.push_back(name);
  }
  return names;
}

// "training", ..., "quantize": what may follow the first '[' of a section.
std::vector<std::string> top_level_names() {
  std::vector<std::string> names = section_names();
  for (std::string& name : names) name = name.substr(0, name.find('.'));
  return names;
}

bool is_section(const std::string& path) {
  const std::vector<std::string> names = section_names();
  const std::string inside = path + ".";  // "quantize" and "quantize.linear" hold sections without being one
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return name == path || name.rfind(inside, 0) == 0; });
}

// What to do about a syntax error that the parser names only from its own side; empty: its words suffice.
std::string_view syntax_hint(std::string_view description) {
  static constexpr std::pair<std::string_view, std::string_view> kHints[] = {
      {"could not determine value type", "; write a string in quotes, a number, true or false"},
      {"unescaped control characters", "; a string ends on its line: is the closing quote missing?"},
      {"cannot redefine existing", "; each key and each section is written once"},
      {"invalid utf-8", "; save the file as UTF-8"},
  };
  for (const auto& [words, hint] : kHints) {
    if (description.find(words) != std::string_view::npos) return hint;
  }
  return "";
}

// The JobSpec field of a path of two names, or null.
const FieldDescriptor* find_field(const std::string& path) {
  const auto [section, key] = split_path(path);
  const Descriptor* descriptor = section_descriptor(section);
  return descriptor == nullptr ? nullptr : descriptor->FindFieldByName(key);
}

class Reader {
 public:
  explicit Reader(ParsedJob& out) : out_(out) {}

  void read(const toml::table& root) {
    std::vector<std::pair<std::string, const toml::node*>> sections;
    for (const auto& [key, node] : root) sections.emplace_back(std::string(key.str()), &node);
    in_order_of_lines(sections);
    for (const auto& [key, node] : sections) entry(key, *node);
  }

  // "section.key=value".
  void read_override(const std::string& text) {
    place_ = absl::StrCat("--set ", text);
    const size_t equals = text.find('=');
    const std::string path = text.substr(0, equals);
    if (equals == std::string::npos || path.find('.') == std::string::npos) {
      error(place_, "wanted section.key=value");
      return;
    }
    const std::string raw = text.substr(equals + 1);
    if (const auto parsed = parse_value(raw, find_field(path))) {
      entry(path, *parsed->get("value"));
    } else {
      entry(path, toml::value<std::string>(raw));
    }
  }

 private:
  using Entries = std::vector<std::pair<std::string, const toml::node*>>;

  static void in_order_of_lines(Entries& entries) {  // toml::table is sorted by key
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
      return a.second->source().begin.line < b.second->source().begin.line;
    });
  }

  // The table {value = RAW}, or nothing if RAW is not TOML, or is not a string where `field` wants one.
  static std::optional<toml::table> parse_value(const std::string& raw, const FieldDescriptor* field) {
    if (raw.find('\n') != std::string::npos) return std::nullopt;
    try {
      toml::table table = toml::parse(absl::StrCat("value = ", raw));
      const bool wants_string =
          field != nullptr && !field->is_repeated() && field->cpp_type() == FieldDescriptor::CPPTYPE_STRING;
      if (wants_string && !table.get("value")->is_string()) return std::nullopt;
      return table;
    } catch (const toml::parse_error&) {
      return std::nullopt;
    }
  }

  void error(const std::string& place, std::string_view sentence) {
    out_.errors.push_back(absl::StrCat(place, ": ", std::string(sentence)));
  }

  std::string place_of(const toml::node& node) const {
    return place_.empty() ? absl::StrCat(out_.file, ":", node.source().begin.line) : place_;
  }

  // One key of the file, whatever it holds.
  void entry(const std::string& path, const toml::node& node) {
    const std::string place = place_of(node);
    if (is_section(path)) {
      section(path, node, place);
      return;
    }
    const FieldDescriptor* field = find_field(path);
    const TorchtitanKey* key = find_torchtitan_key(path);
    if (field == nullptr && key == nullptr) {
      unknown(path, node, place);
      return;
    }
    if (key != nullptr && !torchtitan_key(*key, node, place)) return;
    if (field != nullptr) set(path, *field, node, place);
  }

  void section(const std::string& path, const toml::node& node, const std::string& place) {
    const toml::table* table = node.as_table();
    if (table == nullptr) {
      const bool array_of_tables = node.is_array_of_tables();
      error(place, absl::StrCat(path, " is a section: write [", path, "] and its keys below, got ",
                                array_of_tables ? absl::StrCat("[[", path, "]]") : describe(node)));
      return;
    }
    out_.places[path] = place;
    Entries entries;
    for (const auto& [key, child] : *table)
      entries.emplace_back(absl::StrCat(path, ".", std::string(key.str())), &child);
    in_order_of_lines(entries);
    for (const auto& [key, child] : entries) entry(key, *child);
  }

  // Says what the table says; returns whether the value may be used where JobSpec has the key too.
  bool torchtitan_key(const TorchtitanKey& key, const toml::node& node, const std::string& place) {
    const std::string path(key.path), silent(key.silent), why(key.why);
    const std::vector<std::string> accepted = absl::StrSplit(silent, '|');
    const std::string value = render(node);
    if (!silent.empty() && std::find(accepted.begin(), accepted.end(), value) != accepted.end()) return true;
    if (key.use == KeyUse::kNoEffect) {
      out_.warnings.push_back(absl::StrCat(place, ": ", path, " = ", value, " has no effect: ", why));
      return true;
    }
    error(place, absl::StrCat(path, " = ", value, " is refused: ", why));
    out_.bad_fields.insert(path);
    return false;
  }

  void unknown(const std::string& path, const toml::node& node, const std::string& place) {
    const auto [parent, key] = split_path(path);
    std::vector<std::string> elsewhere;  // sections that have such a key
    for (const std::string& name : section_names()) {
      if (find_field(absl::StrCat(name, ".", key)) != nullptr) elsewhere.push_back(absl::StrCat("[", name, "]"));
    }
    if (parent.empty() && !node.is_table() && !node.is_array_of_tables()) {
      error(place, absl::StrCat("key ", quoted(key), " stands outside any section; ",
                                elsewhere.empty() ? "write it under the section it belongs to"
                                                  : absl::StrCat("write it under ", absl::StrJoin(elsewhere, " or "))));
    } else if (parent.empty() || !is_section(parent)) {
      const std::string section = parent.empty() ? key : parent.substr(0, parent.find('.'));
      error(place, absl::StrCat("unknown section [", section, "]; the nearest valid section is [",
                                nearest(section, top_level_names()), "]"));
    } else if (!elsewhere.empty()) {
      error(place, absl::StrCat("unknown key ", quoted(key), " in [", parent, "]; it belongs to ",
                                absl::StrJoin(elsewhere, " or ")));
    } else {
      std::vector<std::string> names = key_names(parent);
      if (names.empty()) names = section_names();  // inside "quantize", which holds only sections
      error(place, absl::StrCat("unknown key ", quoted(key), " in [", parent, "]; the nearest valid key is ",
                                quoted(nearest(key, names))));
    }
  }

  // Sets the field, or says what it wants.
  void set(const std::string& path, const FieldDescriptor& field, const toml::node& node, const std::string& place) {
    google::protobuf::Message* section = out_.spec.GetReflection()->MutableMessage(
        &out_.spec, out_.spec.GetDescriptor()->FindFieldByName(split_path(path).first));
    out_.places[path] = place;
    const std::string wanted =
        field.is_repeated() ? set_strings(*section, field, node) : set_value(*section, field, node);
    if (wanted.empty()) {
      out_.bad_fields.erase(path);
      return;
    }
    out_.bad_fields.insert(path);
    error(place, absl::StrCat(path, " wants ", wanted, ", got ", describe(node)));
  }

  // These return what the field wants if the node is something else.
  static std::string set_value(google::protobuf::Message& section, const FieldDescriptor& field,
                               const toml::node& node) {
    const google::protobuf::Reflection& reflection = *section.GetReflection();
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        if (!node.is_string()) return "a string in quotes";
        reflection.SetString(&section, &field, node.as_string()->get());
        return "";
      case FieldDescriptor::CPPTYPE_BOOL:
        if (!node.is_boolean()) return "true or false";
        reflection.SetBool(&section, &field, node.as_boolean()->get());
        return "";
      case FieldDescriptor::CPPTYPE_INT64:
        if (!node.is_integer()) return "a whole number";
        reflection.SetInt64(&section, &field, node.as_integer()->get());
        return "";
      case FieldDescriptor::CPPTYPE_UINT64:
        if (!node.is_integer() || node.as_integer()->get() < 0) return "a whole number of at least 0";
        reflection.SetUInt64(&section, &field, static_cast<uint64_t>(node.as_integer()->get()));
        return "";
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        const std::optional<double> number = node.is_number() ? node.value<double>() : std::nullopt;
        if (!number || !std::isfinite(*number)) return "a finite number";
        reflection.SetDouble(&section, &field, *number);
        return "";
      }
      default:
        return "a type this version cannot read from TOML";  // no field of JobSpec has another type
    }
  }

  static std::string set_strings(google::protobuf::Message& section, const FieldDescriptor& field,
                                 const toml::node& node) {
    static const std::string kWanted = "an array of strings";
    const toml::array* array = node.as_array();
    if (array == nullptr) return kWanted;
    const google::protobuf::Reflection& reflection = *section.GetReflection();
    reflection.ClearField(&section, &field);
    for (const toml::node& element : *array) {
      if (!element.is_string()) {
        reflection.ClearField(&section, &field);
        return kWanted;
      }
      reflection.AddString(&section, &field, element.as_string()->get());
    }
    return "";
  }

  ParsedJob& out_;
  std::string place_;  // of the override being read; empty: the file, by line
};

}  // namespace

std::string ParsedJob::locate(const std::string& field) const {
  for (std::string path = field; !path.empty(); path = split_path(path).first) {
    if (const auto found = places.find(path); found != places.end()) return found->second;
  }
  const bool follows_slots = field.rfind("parallelism", 0) == 0;  // a degree nobody wrote is what the slots leave
  return follows_slots && places.count("resources.slots") > 0 ? places.at("resources.slots") : absl::StrCat(file, ":1");
}

ParsedJob parse_toml(std::string_view text, const std::string& file, const std::vector<std::string>& overrides) {
  ParsedJob job;
  job.file = file;
  Reader reader(job);
  try {
    const toml::table root = toml::parse(text, file);
    reader.read(root);
  } catch (const toml::parse_error& e) {  // nothing below the mistake can be understood
    job.syntax_error = true;
    const std::string description(e.description());
    job.errors.push_back(absl::StrCat(file, ":", e.source().begin.line, ": not valid TOML: ", description,
                                      std::string(syntax_hint(description))));
    return job;
  }
  for (const std::string& override : overrides) reader.read_override(override);
  return job;
}

}  // namespace qwen3::spec::config
