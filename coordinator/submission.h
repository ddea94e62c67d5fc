// From a CreateJobRequest to a job that may be stored, or to everything that is wrong with it. Blocks on disk.
#pragma once
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/controller.h"
#include "coordinator/store_reader.h"

namespace qwen3::coordinator {

struct SubmissionContext {
  std::string checkpoint_root;
  std::string data_root;
  std::string state_dir;          // refuses submissions when its disk is nearly full
  bool fast_bfloat16 = false;     // of the connected workers: what "auto" precision would become
  StoreReader* reader = nullptr;  // to resolve a warm start by resource name
};

// Of the request's deterministic bytes, without request_id: equal requests have equal digests.
std::string request_digest(const v1::CreateJobRequest& request);

// Defaults filled in, checked, planned (all but the placement). INVALID_ARGUMENT carries a google.rpc.BadRequest with
// every violation and an ErrorInfo.
absl::StatusOr<NewJob> check_submission(const v1::CreateJobRequest& request, const SubmissionContext& context);

}  // namespace qwen3::coordinator
