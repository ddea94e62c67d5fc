// docs/config.md, the code's tables and the list of torchtitan's keys say the same.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>

#include "spec/config/job_spec.h"
#include "spec/config/keys.h"

namespace qwen3::spec::config {
namespace {

using google::protobuf::FieldDescriptor;

struct Row {
  std::string state, default_value, meaning;
};

// "training.steps" -> its row; a key with two rows fails the test.
std::map<std::string, Row> documented_keys() {
  std::map<std::string, Row> rows;
  std::ifstream in(QWEN3_SOURCE_DIR "/docs/config.md");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("| `", 0) != 0) continue;
    const std::vector<std::string> cells = absl::StrSplit(line, " | ");
    if (cells.size() != 4) {
      ADD_FAILURE() << "wanted four cells: " << line;
      continue;
    }
    const std::string key(absl::StripSuffix(absl::StripPrefix(cells[0], "| `"), "`"));
    const Row row{cells[1], cells[2], std::string(absl::StripSuffix(cells[3], " |"))};
    EXPECT_TRUE(rows.emplace(key, row).second) << key << " has two rows";
  }
  return rows;
}

std::map<std::string, const FieldDescriptor*> job_spec_keys() {
  std::map<std::string, const FieldDescriptor*> keys;
  const auto* job = v1::JobSpec::descriptor();
  for (int i = 0; i < job->field_count(); ++i) {
    const auto* section = job->field(i)->message_type();
    for (int j = 0; j < section->field_count(); ++j) {
      keys[absl::StrCat(job->field(i)->name(), ".", section->field(j)->name())] = section->field(j);
    }
  }
  return keys;
}

// A field's value as TOML, of a spec with all defaults.
std::string default_text(const v1::JobSpec& spec, const FieldDescriptor& field, const std::string& section_name) {
  const auto& section = spec.GetReflection()->GetMessage(spec, spec.GetDescriptor()->FindFieldByName(section_name));
  const auto& reflection = *section.GetReflection();
  if (field.is_repeated()) return "`[]`";
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return absl::StrCat("`\"", reflection.GetString(section, &field), "\"`");
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(section, &field) ? "`true`" : "`false`";
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat("`", reflection.GetInt64(section, &field), "`");
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat("`", reflection.GetUInt64(section, &field), "`");
    default:
      return absl::StrCat("`", reflection.GetDouble(section, &field), "`");
  }
}

TEST(ConfigDocs, EveryKeyOfTorchtitanHasARow) {
  const auto rows = documented_keys();
  std::ifstream in(QWEN3_SOURCE_DIR "/tests/spec/torchtitan/keys.txt");
  int keys = 0;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    ++keys;
    EXPECT_EQ(rows.count(line), 1u) << line;
  }
  EXPECT_EQ(keys, 149);
}

TEST(ConfigDocs, EveryStateIsTheCodes) {
  const auto rows = documented_keys();
  const auto used = job_spec_keys();
  for (const auto& [key, row] : rows) {
    const TorchtitanKey* other = find_torchtitan_key(key);
    if (other != nullptr) {
      EXPECT_EQ(row.state, other->use == KeyUse::kRefused ? "refused" : "no effect") << key;
      EXPECT_EQ(row.meaning, std::string(other->why)) << key;
    } else {
      EXPECT_EQ(row.state, "used") << key;
      EXPECT_EQ(used.count(key), 1u) << key << " is documented as used, but JobSpec has no such field";
    }
  }
}

TEST(ConfigDocs, EveryKeyOfTheCodeHasARow) {
  const auto rows = documented_keys();
  for (const auto& [key, field] : job_spec_keys()) EXPECT_EQ(rows.count(key), 1u) << key;
  for (const TorchtitanKey& key : torchtitan_keys()) EXPECT_EQ(rows.count(std::string(key.path)), 1u) << key.path;
}

TEST(ConfigDocs, EveryDefaultIsTheCodes) {
  v1::JobSpec spec;
  fill_defaults(spec);
  const auto rows = documented_keys();
  for (const auto& [key, field] : job_spec_keys()) {
    const auto row = rows.find(key);
    if (row == rows.end() || row->second.default_value[0] == '(') continue;  // "(training.seq_len)": in words
    EXPECT_EQ(row->second.default_value, default_text(spec, *field, key.substr(0, key.find('.')))) << key;
  }
}

}  // namespace
}  // namespace qwen3::spec::config
