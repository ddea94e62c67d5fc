// Spans of the layers' forward and backward, as a decorator of the model's `around` seam.
#pragma once
#include "model/seams.h"
#include "parallel/timeline.h"

namespace qwen3::parallel {

// `around`, which must run each unit once per microbatch, with a span of `timeline` for the forward of each unit and
// one for its backward, while spans are kept. What a unit waits for (its gather) lies within its spans. Adds nothing to
// the graph otherwise; while it does, the gradients' bits stay. `timeline` outlives what is returned.
model::LayerDecorator traced(model::LayerDecorator around, Timeline& timeline);

}  // namespace qwen3::parallel
