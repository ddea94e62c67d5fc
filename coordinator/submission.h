// From a CreateJobRequest to a job that may be stored, or to everything that is wrong with it. Blocks on disk.
#pragma once
#include <google/protobuf/message.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/controller.h"
#include "coordinator/store_reader.h"
#include "spec/rules.h"

namespace qwen3::coordinator {

struct SubmissionContext {
  std::string checkpoint_root;
  std::string data_root;
  std::string state_dir;          // refuses submissions when its disk is nearly full
  bool fast_bfloat16 = false;     // of the connected workers: what "auto" precision would become
  StoreReader* reader = nullptr;  // to resolve a warm start by resource name
};

// Of a request's type and deterministic bytes; without request_id, equal requests have equal digests.
std::string message_digest(const google::protobuf::Message& message);
std::string request_digest(const v1::CreateJobRequest& request);

// `prefix` and 40 random bits.
std::string random_id(const std::string& prefix);
// INVALID_ARGUMENT with a google.rpc.BadRequest of every violation and an ErrorInfo. REQUIRES: not empty.
absl::Status bad_request(const std::vector<spec::Violation>& violations);
// RESOURCE_EXHAUSTED when the disk of the state folder is nearly full.
absl::Status check_state_disk(const std::string& state_dir);
// What every creating request has in common.
void check_envelope(const std::string& parent, const std::string& request_id, std::vector<spec::Violation>& violations);

// Defaults filled in, checked, planned (all but the placement). INVALID_ARGUMENT carries a google.rpc.BadRequest with
// every violation and an ErrorInfo.
absl::StatusOr<NewJob> check_submission(const v1::CreateJobRequest& request, const SubmissionContext& context);

}  // namespace qwen3::coordinator
