#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands/task.h"
#include "client/exit_code.h"
#include "client/interrupt.h"
#include "client/parity/compare.h"
#include "client/parity/tokens.h"

namespace qwen3::client {
namespace {

namespace fs = std::filesystem;

constexpr char kReferenceName[] = "parity.safetensors";

// A folder of its own, deleted at the end.
class Scratch {
 public:
  static absl::StatusOr<Scratch> make(const std::string& parent) {
    std::string pattern = (fs::path(parent) / "qwen3_parity.XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) {
      return absl::UnknownError(absl::StrCat("cannot make a folder in ", parent));
    }
    return Scratch(pattern);
  }
  Scratch(Scratch&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  Scratch(const Scratch&) = delete;
  ~Scratch() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  explicit Scratch(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

void print_verdict(Context& context, const LogitComparison& found, const ParityLimits& limits,
                   const std::string& reference, const std::string& dtype) {
  const bool passed = passes(found, limits);
  if (context.json()) {
    nlohmann::ordered_json json = {{"passed", passed},
                                   {"reference", reference},
                                   {"dtype", dtype},
                                   {"positions", found.rows},
                                   {"vocab", found.vocab},
                                   {"mean_kl", found.mean_kl},
                                   {"max_kl", found.max_kl},
                                   {"max_difference", found.max_difference},
                                   {"same_argmax", found.same_argmax},
                                   {"not_finite", found.not_finite},
                                   {"mean_kl_limit", limits.mean_kl},
                                   {"difference_limit", nullptr}};
    if (std::isfinite(limits.difference)) json["difference_limit"] = limits.difference;
    context.out() << json.dump() << '\n';
    return;
  }
  const std::string difference_limit =
      std::isfinite(limits.difference) ? absl::StrFormat("at most %.1e", limits.difference) : std::string("no limit");
  context.out() << "reference: " << reference << '\n'
                << absl::StrFormat("%d positions of %d logits, computed in %s\n", found.rows, found.vocab, dtype)
                << absl::StrFormat("KL(reference || ours): mean %.3e (at most %.1e), max %.3e nats\n", found.mean_kl,
                                   limits.mean_kl, found.max_kl)
                << absl::StrFormat("max |logit difference|: %.3e (%s)\n", found.max_difference, difference_limit)
                << absl::StrFormat("same argmax: %d of %d\n", found.same_argmax, found.rows);
  if (found.not_finite > 0) context.out() << found.not_finite << " positions hold an infinity or NaN\n";
  context.out() << (passed ? "PASS" : "FAIL") << '\n';
}

}  // namespace

Result parity(Context& context, const ParityOptions& options) {
  Interrupt interrupt;  // before the client makes threads
  const std::string model = absolute_path(options.model);
  std::string reference = absolute_path(options.reference);
  if (reference.empty() && fs::exists(fs::path(model) / kReferenceName)) reference = model + "/" + kReferenceName;
  if (!reference.empty() && !options.tokens.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--tokens is for a fresh reference, but there is a stored one with tokens of its own: ", reference));
  }
  const auto scratch =
      Scratch::make(options.work_dir.empty() ? fs::temp_directory_path().string() : absolute_path(options.work_dir));
  if (!scratch.ok()) return scratch.status();
  std::string tokens = absolute_path(options.tokens);
  if (tokens.empty()) {
    tokens = scratch->file("tokens.safetensors");
    const absl::Status written =
        reference.empty() ? write_random_tokens(model, tokens) : extract_tokens(reference, tokens);
    if (!written.ok()) return written;
  }

  std::optional<Result> stopped;  // what the command returns when an evaluation gave no logits
  const auto logits_in = [&](const std::string& dtype, const std::string& folder) -> std::string {
    v1::EvaluateRequest request;
    v1::EvaluationSpec& spec = *request.mutable_evaluation();
    spec.mutable_model()->set_hf(model);
    spec.set_tokens_file(tokens);
    spec.set_dtype(dtype);
    spec.set_write_logits(true);
    spec.set_output_folder(scratch->file(folder));
    if (absl::Status status = apply_overrides(options.set, spec); !status.ok()) {
      stopped = status;
      return "";
    }
    const auto started = context.client().evaluate(request);
    if (!started.ok()) {
      stopped = started.status();
      return "";
    }
    context.err() << "operation " << last_part(started->name()) << ": logits in " << dtype << std::endl;
    const auto done = follow_operation(context, interrupt, *started);
    v1::EvaluationResult result;
    if (!done.ok() && absl::IsCancelled(done.status())) {  // its output would go with the folder: nobody wants it
      context.client().cancel_operation(started->name()).IgnoreError();
      context.err() << "cancelled\n";
      stopped = Result(kDetached);
    } else if (!done.ok() || done->has_error() || !done->response().UnpackTo(&result)) {
      stopped = end_of_task(context, started->name(), done);
    }
    return result.logits_file();
  };

  std::string reference_name = reference;
  if (reference.empty()) {
    reference = logits_in("float64", "reference");
    reference_name = "our own evaluation in float64";
    if (stopped) return *stopped;
  }
  const std::string ours = logits_in(options.dtype, "ours");
  if (stopped) return *stopped;
  const auto found = compare_logits(reference, ours);
  if (!found.ok()) return found.status();
  ParityLimits limits = parity_limits(options.dtype);
  if (options.max_kl >= 0) limits.mean_kl = options.max_kl;
  if (options.max_difference >= 0) limits.difference = options.max_difference;
  print_verdict(context, *found, limits, reference_name, options.dtype);
  return passes(*found, limits) ? kSucceeded : kJobFailedUser;
}

}  // namespace qwen3::client
