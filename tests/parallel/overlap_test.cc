// What travels while something else runs: the order of the spans that a rank notes of a step.
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <vector>

#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"
#include "worker/rank/trainer.h"

namespace qwen3::testing {
namespace {

using parallel::Timeline;
using Spans = std::vector<Timeline::Span>;
using Kind = Timeline::Span::Kind;

// What this rank notes of its first step.
Spans spans_of_a_step(const spec::RunSpec& run, const parallel::DeviceMesh& mesh) {
  rank::Trainer trainer(run, mesh, {text_of(run), nullptr});
  Timeline& timeline = mesh.instruments().timeline;
  timeline.keep_spans(1 << 13);
  trainer.step(1, {});
  Timeline::Kept kept = timeline.take_spans();
  EXPECT_EQ(kept.dropped, 0);
  return std::move(kept.spans);
}

// A unit's forward or backward, of each microbatch.
Spans of_unit(const Spans& spans, Kind kind, int64_t unit) {
  Spans found;
  std::copy_if(spans.begin(), spans.end(), std::back_inserter(found),
               [&](const Timeline::Span& span) { return span.kind == kind && span.number == unit; });
  return found;
}

// Over one axis, in the order of their calls.
Spans collectives(const Spans& spans, const parallel::MeshAxis& axis, std::string_view operation) {
  Spans found;
  std::copy_if(spans.begin(), spans.end(), std::back_inserter(found), [&](const Timeline::Span& span) {
    return span.kind == Kind::kCollective && span.account == Timeline::kFirstAxis + axis.number() &&
           span.operation == operation;
  });
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.number < b.number; });
  return found;
}

TEST(Overlap, AUnitsWeightsComeWhileTheUnitBeforeRunsInBothDirections) {
  const spec::RunSpec run = tiny_run(data_parallel_mesh(1, 2), /*tied=*/false);
  const int64_t head = run.model.layers + 1;
  // In which a microbatch gathers: every unit, then for backward the blocks, of which the last is still there.
  std::vector<int64_t> order;
  for (int64_t unit = 0; unit <= head; ++unit) order.push_back(unit);
  for (int64_t unit = head - 2; unit > 0; --unit) order.push_back(unit);
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& mesh) {
    const Spans spans = spans_of_a_step(run, mesh);
    const Spans gathers = collectives(spans, mesh.axis(spec::Axis::kDpShard), "all_gather");
    const auto microbatches = static_cast<size_t>(run.microbatches_per_rank);
    ASSERT_EQ(gathers.size(), microbatches * order.size());
    for (size_t i = 1; i < order.size(); ++i) {
      const bool forward = i <= static_cast<size_t>(head);
      const int64_t before = forward ? order[i] - 1 : order[i] + 1;
      const Spans running = of_unit(spans, forward ? Kind::kForward : Kind::kBackward, before);
      ASSERT_EQ(running.size(), microbatches);
      for (size_t k = 0; k < microbatches; ++k) {
        const Timeline::Span& gather = gathers[k * order.size() + i];
        const char* direction = forward ? "forward of unit " : "backward of unit ";
        EXPECT_TRUE(gather.begin > running[k].begin) << direction << before << ", microbatch " << k;
        EXPECT_TRUE(gather.begin < running[k].end) << direction << before << ", microbatch " << k;
        EXPECT_TRUE(gather.end > running[k].end) << direction << before << " waited, microbatch " << k;
      }
    }
  });
}

// Parts travel to the replica that adds them while one unit runs backward, and back while the next one does.
TEST(Overlap, ReplicasAddAUnitsGradientsWhileTheLastBackwardGoesOn) {
  const spec::RunSpec run = tiny_run(data_parallel_mesh(2, 1), /*tied=*/false);
  const int64_t head = run.model.layers + 1;
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& mesh) {
    const Spans spans = spans_of_a_step(run, mesh);
    const Spans exchanges = collectives(spans, mesh.axis(spec::Axis::kDpReplicate), "all_to_all");
    const Spans gathers = collectives(spans, mesh.axis(spec::Axis::kDpReplicate), "all_gather");
    ASSERT_EQ(exchanges.size(), static_cast<size_t>(head) + 1);  // of each unit once a step, the head's first
    ASSERT_EQ(gathers.size(), exchanges.size());
    const auto microbatches = static_cast<size_t>(run.microbatches_per_rank);
    const Spans last_of_all = of_unit(spans, Kind::kBackward, 0);
    ASSERT_EQ(last_of_all.size(), microbatches);
    EXPECT_TRUE(exchanges[0].begin > last_of_all[microbatches - 2].end) << "before the last microbatch";
    for (int64_t unit = head; unit > 0; --unit) {
      const Timeline::Span& exchange = exchanges[static_cast<size_t>(head - unit)];
      const Timeline::Span& gather = gathers[static_cast<size_t>(head - unit)];
      const Spans next = of_unit(spans, Kind::kBackward, unit - 1);
      ASSERT_EQ(next.size(), microbatches);
      EXPECT_TRUE(exchange.begin < next.back().end) << "gradients of unit " << unit;
      EXPECT_TRUE(exchange.end > next.back().end) << "backward waited for the gradients of unit " << unit;
      if (unit < 2) continue;
      const Spans after = of_unit(spans, Kind::kBackward, unit - 2);
      EXPECT_TRUE(gather.begin < after.back().end) << "sums of unit " << unit;
      EXPECT_TRUE(gather.end > after.back().end) << "backward waited for the sums of unit " << unit;
    }
  });
}

TEST(Overlap, TheExpertsOfABlockAndTheRestOfItExchangeGradientsAtTheSameTime) {
  const spec::RunSpec run = tiny_moe_run({.degrees = {1, 1, 4, 1, 1}, .ep = 2}, {});
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& mesh) {
    const Spans spans = spans_of_a_step(run, mesh);
    const Spans dense = collectives(spans, mesh.axis(spec::Axis::kDpShard), "all_to_all");
    const Spans experts = collectives(spans, mesh.efsdp(), "all_to_all");
    const Spans rows = collectives(spans, mesh.ep(), "all_to_all");
    const auto blocks = static_cast<size_t>(run.microbatches_per_rank * run.model.layers);
    ASSERT_EQ(experts.size(), blocks);
    // Of the first microbatch; the embedding's backward, after block 1, sends no rows to experts.
    for (int64_t block = run.model.layers; block > 1; --block) {
      const auto i = static_cast<size_t>(run.model.layers - block);
      for (const Timeline::Span& exchange : {dense[i + 1], experts[i]}) {  // the head has dense weights only
        const bool meanwhile = std::any_of(rows.begin(), rows.end(), [&](const Timeline::Span& row) {
          return row.begin > exchange.begin && row.end < exchange.end;
        });
        EXPECT_TRUE(meanwhile) << "the next block's backward waited for the gradients of block " << block;
      }
    }
  });
}

// A layer gathers twice in forward and twice in backward, and as often scatters a sum.
TEST(Overlap, AsyncTensorParallelismSendsByPieceWhatThePlainOneSendsAtOnce) {
  const spec::RunSpec run = tiny_run({.degrees = {1, 1, 1, 1, 2}}, /*tied=*/false);
  spec::RunSpec cut = run;
  cut.async_tensor_parallel = true;
  const int64_t crossings = 4 * run.model.layers * run.microbatches_per_rank;  // of each kind
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& mesh) {
    const parallel::MeshAxis& tp = mesh.axis(spec::Axis::kTp);
    const Spans plain = spans_of_a_step(run, mesh), async = spans_of_a_step(cut, mesh);
    const auto count = [&](const Spans& spans, const char* operation) {
      return static_cast<int64_t>(collectives(spans, tp, operation).size());
    };
    for (const char* of_a_piece : {"broadcast", "gather"}) {
      EXPECT_EQ(count(plain, of_a_piece), 0) << of_a_piece;
      EXPECT_EQ(count(async, of_a_piece), crossings * tp.size()) << of_a_piece;
    }
    for (const char* at_once : {"all_gather", "all_to_all"}) {
      EXPECT_EQ(count(plain, at_once) - count(async, at_once), crossings) << at_once;
    }
  });
}

}  // namespace
}  // namespace qwen3::testing
