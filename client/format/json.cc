#include "client/format/json.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/timestamp.pb.h>

#include <cctype>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/time/time.h"
#include "client/format/text.h"

namespace qwen3::client {
namespace {

using Json = nlohmann::ordered_json;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

Json message_json(const Message& message);

// "JOB_STATE_RUNNING" of enum JobState -> "RUNNING".
std::string enum_word(const EnumValueDescriptor& value) {
  std::string prefix;
  for (const char c : value.type()->name()) {
    if (std::isupper(static_cast<unsigned char>(c)) && !prefix.empty()) prefix += '_';
    prefix += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  prefix += '_';
  const std::string& name = value.name();
  return name.compare(0, prefix.size(), prefix) == 0 ? name.substr(prefix.size()) : name;
}

// Value of a singular field (index < 0) or of one element of a repeated one.
Json value_json(const Message& message, const FieldDescriptor& field, int index) {
  const auto& reflection = *message.GetReflection();
  const bool repeated = index >= 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return repeated ? reflection.GetRepeatedInt32(message, &field, index) : reflection.GetInt32(message, &field);
    case FieldDescriptor::CPPTYPE_INT64:
      return repeated ? reflection.GetRepeatedInt64(message, &field, index) : reflection.GetInt64(message, &field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return repeated ? reflection.GetRepeatedUInt32(message, &field, index) : reflection.GetUInt32(message, &field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return repeated ? reflection.GetRepeatedUInt64(message, &field, index) : reflection.GetUInt64(message, &field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return repeated ? reflection.GetRepeatedDouble(message, &field, index) : reflection.GetDouble(message, &field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return repeated ? reflection.GetRepeatedFloat(message, &field, index) : reflection.GetFloat(message, &field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return repeated ? reflection.GetRepeatedBool(message, &field, index) : reflection.GetBool(message, &field);
    case FieldDescriptor::CPPTYPE_ENUM:
      return enum_word(
          *(repeated ? reflection.GetRepeatedEnum(message, &field, index) : reflection.GetEnum(message, &field)));
    case FieldDescriptor::CPPTYPE_STRING:
      return repeated ? reflection.GetRepeatedString(message, &field, index) : reflection.GetString(message, &field);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return message_json(repeated ? reflection.GetRepeatedMessage(message, &field, index)
                                   : reflection.GetMessage(message, &field));
  }
  return nullptr;
}

// The message in it, of a type this program knows; otherwise its type alone.
Json packed_json(const google::protobuf::Any& any) {
  const std::string type = any.type_url().substr(any.type_url().rfind('/') + 1);
  const auto* descriptor = google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName(type);
  if (descriptor != nullptr) {
    const std::unique_ptr<Message> packed(
        google::protobuf::MessageFactory::generated_factory()->GetPrototype(descriptor)->New());
    if (any.UnpackTo(packed.get())) return message_json(*packed);
  }
  return Json{{"type", type}};
}

Json message_json(const Message& message) {
  if (const auto* time = dynamic_cast<const google::protobuf::Timestamp*>(&message)) {
    return absl::FormatTime(absl::RFC3339_full,
                            absl::FromUnixSeconds(time->seconds()) + absl::Nanoseconds(time->nanos()),
                            absl::UTCTimeZone());
  }
  if (const auto* any = dynamic_cast<const google::protobuf::Any*>(&message)) return packed_json(*any);
  Json json = Json::object();
  const auto& reflection = *message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(i);
    if (field.is_map()) {
      Json& object = json[field.name()] = Json::object();
      for (int k = 0; k < reflection.FieldSize(message, &field); ++k) {
        const Json entry = message_json(reflection.GetRepeatedMessage(message, &field, k));
        object[entry.at("key").get<std::string>()] = entry.at("value");
      }
    } else if (field.is_repeated()) {
      Json& array = json[field.name()] = Json::array();
      for (int k = 0; k < reflection.FieldSize(message, &field); ++k) array.push_back(value_json(message, field, k));
    } else if (!field.has_presence() || reflection.HasField(message, &field)) {
      json[field.name()] = value_json(message, field, -1);
    }
  }
  return json;
}

// Strings of the wire are valid UTF-8; anything else is replaced rather than thrown on.
std::string one_line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

std::string to_json(const Message& message) { return one_line(message_json(message)); }

std::string result_json(const v1::Job& job, const std::string& checkpoint_folder) {
  const auto or_null = [](bool exists, auto value) { return exists ? Json(value) : Json(nullptr); };
  const bool finished = job.state() == v1::JOB_STATE_SUCCEEDED && job.has_result();
  const v1::Result& result = job.result();
  const Json json = {
      {"job", job.name()},
      {"state", state_word(job.state())},
      {"steps", job.progress().step()},
      {"first_loss", or_null(finished, result.first_loss())},
      {"final_loss", or_null(finished, result.final_loss())},
      {"validation_loss", or_null(finished && result.has_validation(), result.validation_loss())},
      {"tokens_per_second", or_null(finished, result.tokens_per_second())},
      {"checkpoint", or_null(!checkpoint_folder.empty(), checkpoint_folder)},
      {"hf_export", or_null(!job.hf_export().empty(), job.hf_export())},
  };
  return one_line(json);
}

}  // namespace qwen3::client
