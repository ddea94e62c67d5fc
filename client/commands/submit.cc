#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/errors.h"
#include "client/exit_code.h"
#include "client/format/json.h"
#include "client/format/spec.h"
#include "client/format/text.h"
#include "client/interrupt.h"
#include "spec/config/job_spec.h"
#include "spec/config/toml.h"

namespace qwen3::client {
namespace {

absl::StatusOr<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file.good() && !file.eof()) return absl::UnknownError(absl::StrCat("cannot read ", path));
  return text;
}

void print_dry_run(Context& context, const v1::Job& job) {
  if (context.json()) {
    context.out() << to_json(job) << '\n';
    return;
  }
  context.out() << "accepted; nothing was started (--dry-run)\n";
  print_plan(context.out(), job.plan(), "  ");
}

void print_submitted(Context& context, const v1::Job& job, bool quiet) {
  if (quiet) {
    context.out() << job.name() << '\n';
  } else if (context.json()) {
    context.out() << to_json(job) << '\n';
  } else {
    const std::string id = last_part(job.name());
    context.out() << "job " << id << " submitted: " << state_word(job.state());
    if (!job.pending_reason().empty()) context.out() << " (" << job.pending_reason() << ')';
    context.out() << '\n';
    context.err() << "follow it with: qwen3ctl watch " << id << '\n';
  }
}

}  // namespace

Result submit(Context& context, const SubmitOptions& options) {
  const auto text = read_file(options.file);
  if (!text.ok()) return text.status();
  const auto parsed = spec::config::parse_toml(*text, options.file, options.set);
  for (const std::string& warning : parsed.warnings) context.err() << "warning: " << warning << '\n';
  if (!parsed.errors.empty()) {
    for (const std::string& error : parsed.errors) context.err() << error << '\n';
    return kRefused;
  }

  std::optional<Interrupt> interrupt;  // before the client makes threads
  if (options.watch) interrupt.emplace();
  v1::CreateJobRequest request;
  *request.mutable_job()->mutable_spec() = parsed.spec;
  spec::config::make_paths_absolute(*request.mutable_job()->mutable_spec(), std::filesystem::current_path());
  request.set_job_id(options.job_id);
  request.set_request_id(options.request_id);
  request.set_validate_only(options.dry_run);
  const auto job = context.client().create_job(request);
  if (!job.ok()) {
    print_error(context.err(), job.status(), [&](const std::string& field) { return parsed.locate(field); });
    return exit_code(job.status());
  }
  for (const std::string& warning : job->warnings()) context.err() << "warning: " << warning << '\n';
  if (options.dry_run) {
    print_dry_run(context, *job);
    return 0;
  }
  if (!options.watch) {
    print_submitted(context, *job, options.quiet);
    return 0;
  }
  if (options.quiet) context.out() << job->name() << std::endl;
  context.err() << "job " << last_part(job->name()) << " submitted" << std::endl;
  return follow(context, *interrupt, job->name());
}

}  // namespace qwen3::client
