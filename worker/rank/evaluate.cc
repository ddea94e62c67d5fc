#include "worker/rank/evaluate.h"

#include <stdexcept>

namespace qwen3::rank {

void evaluate(const internal::v1::RankAssignment&, const spec::config::Environment&, Link&) {
  throw std::runtime_error("UNIMPLEMENTED: this build of qwen3-rank does not evaluate checkpoints");
}

}  // namespace qwen3::rank
