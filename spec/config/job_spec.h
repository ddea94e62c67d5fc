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
  bool fast_bfloat16 = false;  // the devices compute bfloat16 natively: what "auto" becomes
  // Folder with what set-up fetched: datasets/NAME (a folder of text), tokenizers/qwen3.tiktoken (the whole vocabulary)
  // and tokenizers/qwen3-2048.tiktoken (its first entries, for the debug flavors); empty: none.
  std::string data_root;
};

// Sets every absent field to its default (the comments of job_spec.proto), degrees of -1 included. Two defaults stay
// as they are written: "auto" precision, since it depends on the devices, and an absent decay_ratio.
void fill_defaults(v1::JobSpec& spec);

// Makes the fields that name files absolute, seen from folder `base`; the command line does it before it sends a spec.
void make_paths_absolute(v1::JobSpec& spec, const std::string& base);

// Every violation at once: enum-like strings, ranges, paths that are missing, the rules of spec/rules.h. `spec` has
// its defaults. Paths are looked up on this machine and must be absolute.
std::vector<Violation> check(const v1::JobSpec& spec, const Environment& environment);

// REQUIRES: spec has its defaults. The result may be run only if check(spec) is empty; what a mistake leaves unknown is
// taken as a default (an unknown flavor as debugmodel), so that the other rules can be checked.
RunSpec run_spec_from_job(const v1::JobSpec& spec, const Environment& environment);

}  // namespace qwen3::spec::config
