// JSON of the API's messages for scripts: field names as in the .proto, 64-bit integers as numbers (protobuf's own JSON
// makes them strings), enum values without their prefix, times as RFC 3339, absent messages left out.
#pragma once
#include <google/protobuf/message.h>

#include <string>
#include <vector>

#include "qwen3/v1/job.pb.h"

namespace qwen3::client {

std::string to_json(const google::protobuf::Message& message);  // one line

template <class Message>
std::string to_json_array(const std::vector<Message>& messages) {
  std::string text = "[";
  for (const Message& message : messages) text += (text.size() > 1 ? ",\n " : "") + to_json(message);
  return text + "]";
}

// The line that ends a followed job: {"job","state","steps","first_loss","final_loss","validation_loss",
// "tokens_per_second","checkpoint","hf_export"}; what does not exist is null. `checkpoint` is a folder.
std::string result_json(const v1::Job& job, const std::string& checkpoint_folder);

}  // namespace qwen3::client
