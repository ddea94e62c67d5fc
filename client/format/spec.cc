#include "client/format/spec.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cstdint>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/format/text.h"

namespace qwen3::client {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return printable(result + '"');
}

std::string toml_value(const Message& section, const FieldDescriptor& key) {
  const auto& reflection = *section.GetReflection();
  if (key.is_repeated()) {  // the spec's only lists are of strings
    std::vector<std::string> elements;
    for (int i = 0; i < reflection.FieldSize(section, &key); ++i) {
      elements.push_back(quoted(reflection.GetRepeatedString(section, &key, i)));
    }
    return absl::StrCat("[", absl::StrJoin(elements, ", "), "]");
  }
  switch (key.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(reflection.GetInt64(section, &key));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(reflection.GetUInt64(section, &key));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return absl::StrCat(reflection.GetDouble(section, &key));
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(section, &key) ? "true" : "false";
    default:
      return quoted(reflection.GetString(section, &key));
  }
}

// "tp 3.0 MiB, ep 1.5 MiB, ..."; "nothing".
std::string sent_text(const v1::Plan& plan) {
  const std::map<std::string, int64_t> by_axis(plan.bytes_sent_per_step().begin(), plan.bytes_sent_per_step().end());
  if (by_axis.empty()) return "nothing";
  return absl::StrJoin(by_axis, ", ", [](std::string* out, const auto& entry) {
    absl::StrAppend(out, entry.first, " ", bytes_text(entry.second));
  });
}

}  // namespace

void print_spec(std::ostream& out, const v1::JobSpec& spec, const char* indent) {
  std::vector<const FieldDescriptor*> sections;
  spec.GetReflection()->ListFields(spec, &sections);
  for (const FieldDescriptor* section : sections) {
    const Message& message = spec.GetReflection()->GetMessage(spec, section);
    std::vector<const FieldDescriptor*> keys;
    message.GetReflection()->ListFields(message, &keys);
    if (keys.empty()) continue;
    out << indent << '[' << section->name() << "]\n";
    for (const FieldDescriptor* key : keys) out << indent << key->name() << " = " << toml_value(message, *key) << '\n';
  }
}

void print_plan(std::ostream& out, const v1::Plan& plan, const char* indent) {
  std::vector<std::string> axes;
  for (const v1::MeshAxis& axis : plan.mesh()) axes.push_back(absl::StrCat(axis.name(), "=", axis.degree()));
  const v1::BytesPerRank& bytes = plan.bytes_per_rank();
  out << indent << "mesh: " << absl::StrJoin(axes, " ") << " (" << plan.world_size() << " ranks)\n";
  for (const v1::RankPlacement& rank : plan.placement()) {
    out << indent << "rank " << rank.rank() << ": " << rank.worker() << " slot " << rank.slot() << '\n';
  }
  out << indent << "parameters: " << plan.parameters() << '\n'
      << indent << "microbatches per rank and step: " << plan.microbatches_per_rank() << '\n'
      << indent << "compute dtype: " << plan.compute_dtype() << '\n'
      << indent << "FLOPs per step: " << absl::StrFormat("%.3e", plan.flops_per_step()) << '\n'
      << indent << "memory per rank: " << bytes_text(bytes.total()) << " (parameters " << bytes_text(bytes.parameters())
      << ", gradients " << bytes_text(bytes.gradients()) << ", moments " << bytes_text(bytes.moments())
      << ", activations " << bytes_text(bytes.activations()) << ")\n"
      << indent << "sent per rank and step: " << sent_text(plan) << '\n'
      << indent << "checkpoint: " << bytes_text(plan.checkpoint_bytes());
  if (bytes.checkpoint_copy() > 0) {
    out << "; while it is written a rank holds a copy of its part, " << bytes_text(bytes.checkpoint_copy());
  }
  out << '\n';
  if (plan.estimated_step_seconds() > 0) {
    out << indent << "estimated step time: " << absl::StrFormat("%.3g s", plan.estimated_step_seconds()) << '\n';
  }
  out << indent << "start: " << (plan.waits().empty() ? "at once" : plan.waits()) << '\n';
}

}  // namespace qwen3::client
