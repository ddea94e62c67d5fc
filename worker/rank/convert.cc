#include "worker/rank/convert.h"

#include <stdexcept>

namespace qwen3::rank {

void convert(const internal::v1::RankAssignment&, Link&) {
  throw std::runtime_error("UNIMPLEMENTED: this build of qwen3-rank does not convert checkpoints");
}

}  // namespace qwen3::rank
