#include "coordinator/submission.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <xxhash.h>

#include <filesystem>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "coordinator/checkpoint_files.h"
#include "coordinator/names.h"
#include "google/rpc/error_details.pb.h"
#include "spec/communication.h"
#include "spec/config/job_spec.h"
#include "spec/estimate.h"

namespace qwen3::coordinator {
namespace {

using spec::Violation;

constexpr int64_t kStateReserve = 64 << 20;  // bytes kept for what is there

void check_request(const v1::CreateJobRequest& request, std::vector<Violation>& violations) {
  check_envelope(request.parent(), request.request_id(), violations);
  if (!request.job_id().empty() && !is_job_id(request.job_id())) {
    violations.push_back({"job_id", absl::StrCat("job_id \"", request.job_id(),
                                                 "\" must be 1-63 characters of [a-z0-9-] and start with a letter")});
  }
  if (!request.has_job() || !request.job().has_spec()) {
    violations.push_back({"job.spec", "job.spec is missing; it says what to train"});
  }
}

// The folder of a warm start; empty: none asked for.
std::string resolve_initial_load(const v1::JobSpec& spec, const SubmissionContext& context,
                                 std::vector<Violation>& violations) {
  const std::string& from = spec.checkpoint().initial_load_path();
  if (from.empty()) return "";
  const auto complain = [&](const std::string& message) {
    violations.push_back({"checkpoint.initial_load_path", message});
    return std::string();
  };
  if (!absl::StartsWith(from, "tenants/")) {
    const auto resolved = resolve_checkpoint_path(from, context.checkpoint_root);
    return resolved.ok() ? *resolved : complain(std::string(resolved.status().message()));
  }
  const auto name = parse_checkpoint_name(from);
  if (!name) return complain(absl::StrCat("\"", from, "\" is not tenants/default/jobs/ID/checkpoints/step-N"));
  const auto checkpoints = context.reader->checkpoints(name->job);
  if (checkpoints.ok()) {
    for (const v1::Checkpoint& checkpoint : *checkpoints) {
      if (checkpoint.step() == name->step && checkpoint.state() == v1::CHECKPOINT_STATE_COMMITTED) {
        return checkpoint.folder();
      }
    }
  }
  return complain(absl::StrCat("there is no committed checkpoint \"", from, "\""));
}

void fill_plan(const spec::RunSpec& run, v1::Plan& plan) {
  for (int axis = 0; axis < spec::kAxisCount; ++axis) {
    v1::MeshAxis& wire = *plan.add_mesh();
    wire.set_name(std::string(spec::axis_name(static_cast<spec::Axis>(axis))));
    wire.set_degree(run.mesh.degrees[axis]);
  }
  plan.set_world_size(run.mesh.world_size());
  plan.set_parameters(spec::parameter_count(run.model));
  plan.set_microbatches_per_rank(run.microbatches_per_rank);
  plan.set_flops_per_step(spec::flops_per_token(run.model, run.data.seq_len) *
                          static_cast<double>(run.global_batch_size * run.data.seq_len));
  const spec::BytesPerRank bytes = spec::estimate_bytes_per_rank(run);
  v1::BytesPerRank& wire = *plan.mutable_bytes_per_rank();
  wire.set_parameters(bytes.parameters);
  wire.set_gradients(bytes.gradients);
  wire.set_moments(bytes.moments);
  wire.set_activations(bytes.activations);
  wire.set_total(bytes.peak());
  wire.set_checkpoint_copy(bytes.checkpoint_copy);
  const spec::CommunicationBytes sent = spec::estimate_communication(run);
  const auto add_sent = [&plan](const char* axis, int64_t bytes) {
    if (bytes > 0) (*plan.mutable_bytes_sent_per_step())[axis] = bytes;
  };
  add_sent("dp_replicate", sent.dp_replicate);
  add_sent("dp_shard", sent.dp_shard);
  add_sent("tp", sent.tp);
  add_sent("ep", sent.ep);
  add_sent("efsdp", sent.efsdp);
  plan.set_checkpoint_bytes(spec::checkpoint_bytes(run.model));
  plan.set_compute_dtype(run.precision == spec::Precision::kBfloat16  ? "bfloat16"
                         : run.precision == spec::Precision::kFloat64 ? "float64"
                                                                      : "float32");
}

// The root must hold two checkpoints: the newest stays until the next one is committed.
void check_space(const std::string& folder, int64_t checkpoint_bytes, std::vector<Violation>& violations) {
  const auto free = free_bytes(folder);
  if (!free.ok()) {
    violations.push_back({"checkpoint.folder", std::string(free.status().message())});
  } else if (*free < 2 * checkpoint_bytes) {
    violations.push_back(
        {"checkpoint.folder", absl::StrCat(folder, " must hold two checkpoints of ", checkpoint_bytes, " bytes, ",
                                           2 * checkpoint_bytes, " in all, but ", *free, " bytes are free there")});
  }
}

}  // namespace

// Base 32 without letters that read as digits.
std::string random_id(const std::string& prefix) {
  static constexpr char kAlphabet[] = "abcdefghjkmnpqrstvwxyz0123456789";
  std::random_device random;
  std::string id = prefix;
  for (int i = 0; i < 8; ++i) id += kAlphabet[random() % 32];
  return id;
}

absl::Status bad_request(const std::vector<Violation>& violations) {
  google::rpc::BadRequest details;
  std::string message = violations.front().field + ": " + violations.front().message;
  if (violations.size() > 1) absl::StrAppend(&message, " (and ", violations.size() - 1, " more)");
  for (const Violation& violation : violations) {
    auto& field = *details.add_field_violations();
    field.set_field(violation.field);
    field.set_description(violation.message);
  }
  absl::Status status = with_reason(absl::InvalidArgumentError(message), "INVALID_SPEC");
  status.SetPayload("type.googleapis.com/google.rpc.BadRequest", absl::Cord(details.SerializeAsString()));
  return status;
}

void check_envelope(const std::string& parent, const std::string& request_id, std::vector<Violation>& violations) {
  if (parent != kParent) {
    violations.push_back({"parent", absl::StrCat("parent is \"", parent, "\"; the only tenant is \"",
                                                 absl::string_view(kParent.data(), kParent.size()), "\"")});
  }
  if (request_id.size() > 128) {
    violations.push_back(
        {"request_id", absl::StrCat("request_id has ", request_id.size(), " characters; at most 128 are allowed")});
  }
}

absl::Status check_state_disk(const std::string& state_dir) {
  const auto free = free_bytes(state_dir);
  if (!free.ok() || *free >= kStateReserve) return absl::OkStatus();
  return with_reason(
      absl::ResourceExhaustedError(absl::StrCat("the coordinator's state folder ", state_dir, " has ", *free,
                                                " bytes left; below ", kStateReserve, " nothing new is accepted")),
      "STATE_DISK_FULL");
}

std::string message_digest(const google::protobuf::Message& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  const std::string& type = message.GetTypeName();
  if (type != v1::CreateJobRequest::descriptor()->full_name()) bytes = absl::StrCat(type, ":", bytes);
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return absl::StrCat(absl::Hex(hash.high64, absl::kZeroPad16), absl::Hex(hash.low64, absl::kZeroPad16));
}

std::string request_digest(const v1::CreateJobRequest& request) {
  v1::CreateJobRequest body = request;
  body.clear_request_id();
  return message_digest(body);
}

absl::StatusOr<NewJob> check_submission(const v1::CreateJobRequest& request, const SubmissionContext& context) {
  if (absl::Status status = check_state_disk(context.state_dir); !status.ok()) return status;
  std::vector<Violation> violations;
  check_request(request, violations);
  if (!request.job().has_spec()) return bad_request(violations);

  NewJob job{.request_id = request.request_id(), .digest = request_digest(request)};
  v1::Job& record = *job.stored.mutable_job();
  const std::string id = request.job_id().empty() ? random_id("job-") : request.job_id();
  record.set_name(job_name(id));
  *record.mutable_spec() = request.job().spec();
  v1::JobSpec& spec = *record.mutable_spec();
  spec::config::fill_defaults(spec);
  const spec::config::Environment environment{.fast_bfloat16 = context.fast_bfloat16, .data_root = context.data_root};
  for (Violation& violation : spec::config::check(spec, environment)) violations.push_back(std::move(violation));
  job.stored.set_initial_load_folder(resolve_initial_load(spec, context, violations));
  if (!violations.empty()) return bad_request(violations);

  const std::filesystem::path folder =
      (std::filesystem::path(context.checkpoint_root) / spec.checkpoint().folder() / id).lexically_normal();
  job.stored.set_checkpoint_folder(folder.string());
  fill_plan(spec::config::run_spec_from_job(spec, environment), *record.mutable_plan());
  check_space(folder.string(), record.plan().checkpoint_bytes(), violations);
  if (!violations.empty()) return bad_request(violations);
  return job;
}

}  // namespace qwen3::coordinator
