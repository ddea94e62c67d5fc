#include "client/errors.h"

#include <google/protobuf/any.pb.h>

#include <ostream>
#include <string_view>

#include "absl/strings/cord.h"
#include "google/rpc/error_details.pb.h"

namespace qwen3::client {
namespace {

constexpr char kBadRequest[] = "type.googleapis.com/google.rpc.BadRequest";
constexpr std::string_view kSpecPrefixes[] = {"job.spec.", "spec.", "evaluation.",
                                              "conversion."};  // the user knows the TOML's names

}  // namespace

void print_error(std::ostream& err, const absl::Status& status, const Locate& locate) {
  google::rpc::BadRequest bad;
  const auto payload = status.GetPayload(kBadRequest);
  if (!payload || !bad.ParseFromString(std::string(*payload)) || bad.field_violations().empty()) {
    err << "qwen3ctl: " << absl::StatusCodeToString(status.code()) << ": " << std::string(status.message()) << '\n';
    return;
  }
  for (const auto& violation : bad.field_violations()) {
    std::string field = violation.field();
    for (const std::string_view prefix : kSpecPrefixes) {
      if (field.compare(0, prefix.size(), prefix) == 0) field.erase(0, prefix.size());
    }
    const std::string place = locate ? locate(field) : "";
    if (!place.empty()) err << place << ": ";
    const bool named = violation.description().compare(0, field.size(), field) == 0;
    if (!named) err << field << ": ";
    err << violation.description() << '\n';
  }
}

}  // namespace qwen3::client
