#include "worker/rank/perform.h"

#include <stdexcept>

#include "worker/rank/convert.h"
#include "worker/rank/evaluate.h"
#include "worker/rank/run.h"

namespace qwen3::rank {

void perform(const internal::v1::RankAssignment& assignment, const spec::config::Environment& environment, Link& link) {
  switch (assignment.task_case()) {
    case internal::v1::RankAssignment::kEvaluation:
      return evaluate(assignment, environment, link);
    case internal::v1::RankAssignment::kConversion:
      return convert(assignment, link);
    case internal::v1::RankAssignment::TASK_NOT_SET:
      return run(assignment, environment, link);
  }
  throw std::logic_error("an assignment with a task that this build does not know");
}

}  // namespace qwen3::rank
