// The one place where exceptions of a rank become a report.
#pragma once
#include <functional>
#include <optional>

#include "qwen3/internal/v1/rank.pb.h"

namespace qwen3::rank {

// Runs `body`; what it throws becomes a failure with its class (whose fault) and reason. Nothing: it returned.
std::optional<internal::v1::RankFailed> run_guarded(const std::function<void()>& body);

}  // namespace qwen3::rank
