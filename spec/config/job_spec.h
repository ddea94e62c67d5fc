// JobSpec: defaults, checks on its own fields, and translation to the engine's plain structs.
#pragma once
#include <string>
#include <vector>

#include "qwen3/v1/job_spec.pb.h"
#include "spec/rules.h"
#include "spec/run_spec.h"

namespace qwen3::spec::config {

// What the defaults and the translation need to know of the cluster and the machine.
struct Environment {
  bool fast_bfloat16 = false;   // the devices compute bfloat16 natively: what "auto" becomes
  std::string data_root;        // folder with what set-up fetched: datasets/NAME, tokenizers/...; empty: none
};

// Sets every absent field to its default (the comments of job_spec.proto), degrees of -1 included.
void fill_defaults(v1::JobSpec& spec);

// Every violation at once: enum-like strings, ranges, paths that are missing, the rules of spec/rules.h. `spec` has
// its defaults. Paths are looked up on this machine.
std::vector<Violation> check(const v1::JobSpec& spec, const Environment& environment);

// REQUIRES: check(spec) is empty.
RunSpec run_spec_from_job(const v1::JobSpec& spec, const Environment& environment);

}  // namespace qwen3::spec::config
