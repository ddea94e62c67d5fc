#include "spec/config/load.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <charconv>

namespace qwen3::spec::config {
namespace {

// Line of "FILE:LINE"; overrides ("--set ...") come after all lines.
int64_t line_of(const ParsedJob& job, const std::string& place) {
  int64_t line = INT64_MAX;
  const std::string prefix = job.file + ":";
  if (place.rfind(prefix, 0) == 0) std::from_chars(place.data() + prefix.size(), place.data() + place.size(), line);
  return line;
}

}  // namespace

ParsedJob load_job(std::string_view text, const std::string& file, const std::string& base,
                   const std::vector<std::string>& overrides, const Environment& environment) {
  ParsedJob job = parse_toml(text, file, overrides);
  if (job.syntax_error) return job;
  make_paths_absolute(job.spec, base);
  fill_defaults(job.spec);
  for (const Violation& violation : check(job.spec, environment)) {
    if (job.bad_fields.count(violation.field) > 0) continue;  // its own mistake is reported; this is of its default
    job.errors.push_back(absl::StrCat(job.locate(violation.field), ": ", violation.message));
  }
  std::stable_sort(job.errors.begin(), job.errors.end(),
                   [&](const std::string& a, const std::string& b) { return line_of(job, a) < line_of(job, b); });
  return job;
}

}  // namespace qwen3::spec::config
