// The parts of tensor parallelism, each beside what its formula says or the plain operation on one device gives.
#include "parallel/tensor/tensor_parallel.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

#include "model/embedding.h"
#include "model/experts.h"
#include "model/loss.h"
#include "model/parameter.h"
#include "parallel/collectives.h"
#include "parallel/tensor/overlap.h"
#include "parallel/tensor/regions.h"
#include "parallel/tensor/vocabulary.h"
#include "tests/ranks/run_ranks.h"

namespace qwen3::testing {
namespace {

using parallel::MeshAxis;
using parallel::TensorParallelOptions;

constexpr int64_t kBatch = 2, kLength = 12, kDim = 6, kHidden = 8, kVocab = 13;  // 2 and 4 divide the length, not V

void on_tp(int64_t size, const std::function<void(const MeshAxis&)>& body) { run_axis(spec::Axis::kTp, size, body); }

at::Tensor random(std::vector<int64_t> shape, uint64_t seed, at::ScalarType dtype = at::kDouble) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::kDouble).to(dtype);
}

at::Tensor leaf(const at::Tensor& x) { return x.detach().clone().requires_grad_(); }

// This rank's part of `dim`, cut into runs of the same length; the last may be shorter.
at::Tensor piece(const at::Tensor& whole, int64_t dim, const MeshAxis& tp) {
  const int64_t run = (whole.size(dim) + tp.size() - 1) / tp.size(), begin = tp.index() * run;
  return whole.narrow(dim, begin, std::min(run, whole.size(dim) - begin));
}

model::Parameter parameter(std::string name, const at::Tensor& whole, int64_t dim, const MeshAxis& tp) {
  model::Parameter cut{.name = name, .tensor = name, .shape = whole.sizes().vec()};
  cut.weight = leaf(piece(whole, dim, tp));
  return cut;
}

model::Seams seams(const MeshAxis& tp, const TensorParallelOptions& options = {}) {
  model::Seams seams = model::plain_seams();
  parallel::install_tensor_parallel(seams, tp, options);
  return seams;
}

// float64: only the order of a few hundred additions differs.
void expect_near(const at::Tensor& got, const at::Tensor& want, const char* what) {
  ASSERT_EQ(got.sizes(), want.sizes()) << what;
  EXPECT_LE((got - want).norm().item<double>(), 1e-12 * want.norm().item<double>()) << what;
}

// --- regions: L = sum over ranks of <x's image, rank + 1>, so every rank has another gradient ---

TEST(Regions, AGatheredPieceHasTheGradientOfAllRanks) {
  on_tp(2, [](const MeshAxis& tp) {
    const at::Tensor whole = at::arange(8, at::kDouble).view({2, 4});
    const at::Tensor x = leaf(piece(whole, 1, tp));
    const at::Tensor y = gather(x, 1, tp);
    EXPECT_TRUE(at::equal(y, whole));
    (y * (tp.index() + 1)).sum().backward();
    EXPECT_TRUE(at::equal(x.grad(), at::full({2, 2}, 3, at::kDouble)));  // 1 + 2
  });
}

TEST(Regions, AScatteredSumHasTheGradientOfTheRankThatGotIt) {
  on_tp(2, [](const MeshAxis& tp) {
    const at::Tensor x = leaf(at::arange(8, at::kDouble).view({2, 4}) * (tp.index() + 1));
    const at::Tensor y = reduce_scatter(x, 1, tp);
    EXPECT_TRUE(at::equal(y, piece(at::arange(8, at::kDouble).view({2, 4}) * 3, 1, tp)));
    (y * (tp.index() + 1)).sum().backward();
    EXPECT_TRUE(at::equal(x.grad(), at::tensor({1., 1., 2., 2.}, at::kDouble).expand({2, 4})));
  });
}

TEST(Regions, AReplicatedValueHasTheSumOfTheRanksGradients) {
  on_tp(4, [](const MeshAxis& tp) {
    const at::Tensor x = leaf(at::arange(3, at::kDouble));
    const at::Tensor y = replicate(x, tp);
    EXPECT_TRUE(at::equal(y, x));
    (y * (tp.index() + 1)).sum().backward();
    EXPECT_TRUE(at::equal(x.grad(), at::full({3}, 10, at::kDouble)));
  });
}

TEST(Regions, AReducedSumHandsItsGradientToEveryTerm) {
  on_tp(4, [](const MeshAxis& tp) {
    const at::Tensor x = leaf(at::ones({3}, at::kDouble) * (tp.index() + 1));
    const at::Tensor y = reduce(x, tp);
    EXPECT_TRUE(at::equal(y, at::full({3}, 10, at::kDouble)));
    (y * 5).sum().backward();
    EXPECT_TRUE(at::equal(x.grad(), at::full({3}, 5, at::kDouble)));
  });
}

// --- linears: two column-parallel layers of one input, then a row-parallel one, as in an MLP ---

struct Mlp {
  at::Tensor x, w1, w3, w2, out_gradient;
  at::Tensor y, x_gradient, w1_gradient, w3_gradient, w2_gradient;

  Mlp()
      : x(random({kBatch, kLength, kDim}, 1)),
        w1(random({kHidden, kDim}, 2)),
        w3(random({kHidden, kDim}, 3)),
        w2(random({kDim, kHidden}, 4)),
        out_gradient(random({kBatch, kLength, kDim}, 5)) {
    const at::Tensor in = leaf(x), a = leaf(w1), b = leaf(w3), c = leaf(w2);
    y = at::linear(at::linear(in, a) * at::linear(in, b), c);
    y.backward(out_gradient);
    x_gradient = in.grad(), w1_gradient = a.grad(), w3_gradient = b.grad(), w2_gradient = c.grad();
    y = y.detach();
  }
};

struct LinearsCase {
  const char* name;
  int64_t tp;
  TensorParallelOptions options;
};

class Linears : public ::testing::TestWithParam<LinearsCase> {};

TEST_P(Linears, AreTheWholeLayersForwardAndBackward) {
  const auto& [name, size, options] = GetParam();
  const Mlp mlp;
  on_tp(size, [&, options = options](const MeshAxis& tp) {
    const model::Seams cut = seams(tp, options);
    const auto tokens = [&](const at::Tensor& t) { return options.sequence_parallel ? piece(t, 1, tp) : t; };
    const model::Parameter w1 = parameter("layers.0.feed_forward.w1.weight", mlp.w1, 0, tp);
    const model::Parameter w3 = parameter("layers.0.feed_forward.w3.weight", mlp.w3, 0, tp);
    const model::Parameter w2 = parameter("layers.0.feed_forward.w2.weight", mlp.w2, 1, tp);
    const at::Tensor x = leaf(tokens(mlp.x));

    const std::vector<at::Tensor> gate_up = cut.linears(x, {&w1, &w3});
    EXPECT_EQ(gate_up[0].sizes(), (std::vector<int64_t>{kBatch, kLength, kHidden / tp.size()}));
    const at::Tensor y = cut.linears(gate_up[0] * gate_up[1], {&w2})[0];
    y.backward(tokens(mlp.out_gradient));

    expect_near(y.detach(), tokens(mlp.y), "y");
    expect_near(x.grad(), tokens(mlp.x_gradient), "x's gradient");
    expect_near(w1.weight.grad(), piece(mlp.w1_gradient, 0, tp), "w1's gradient");
    expect_near(w3.weight.grad(), piece(mlp.w3_gradient, 0, tp), "w3's gradient");
    expect_near(w2.weight.grad(), piece(mlp.w2_gradient, 1, tp), "w2's gradient");
  });
}

INSTANTIATE_TEST_SUITE_P(TensorParallel, Linears,
                         ::testing::Values(LinearsCase{"one", 1, {}}, LinearsCase{"two", 2, {}},
                                           LinearsCase{"four", 4, {}},
                                           LinearsCase{"two_whole_sequence", 2, {.sequence_parallel = false}},
                                           LinearsCase{"four_whole_sequence", 4, {.sequence_parallel = false}},
                                           LinearsCase{"two_async", 2, {.async = true}},
                                           LinearsCase{"four_async", 4, {.async = true}}),
                         [](const auto& info) { return info.param.name; });

TEST(Linears, AnUnknownLayerIsRefused) {
  on_tp(2, [](const MeshAxis& tp) {
    const model::Parameter odd = parameter("layers.0.adapter.weight", at::ones({4, 4}), 0, tp);
    EXPECT_THROW(seams(tp).linears(at::ones({1, 2, 4}), {&odd}), c10::ValueError);
  });
}

// --- async: the same bits as plain collectives around the same GEMMs ---

constexpr at::ScalarType kNarrow = at::kFloat;  // where another order or another GEMM would show

// [B, n, in] . [in, out]
at::Tensor gemm(const at::Tensor& x, const at::Tensor& matrix) {
  return at::mm(x.reshape({-1, x.size(-1)}), matrix).view({x.size(0), x.size(1), -1});
}

// f(piece) for the ranks' pieces of the sequence, behind each other.
template <typename F>
at::Tensor by_piece(const at::Tensor& x, int64_t ranks, F&& f) {
  std::vector<at::Tensor> pieces;
  for (const at::Tensor& piece : x.chunk(ranks, 1)) pieces.push_back(f(piece));
  return at::cat(pieces, 1);
}

at::Tensor all_rows(const at::Tensor& gradient, const at::Tensor& x) {
  return at::mm(gradient.reshape({-1, gradient.size(-1)}).t(), x.reshape({-1, x.size(-1)}));
}

TEST(Async, GatherAndLinearsAreBitwiseAGatherAndAGemmForEachPiece) {
  on_tp(4, [](const MeshAxis& tp) {
    const at::Tensor x = leaf(random({kBatch, 3, 33}, 10 + tp.index(), kNarrow));
    const at::Tensor a = leaf(random({17, 33}, 20 + tp.index(), kNarrow));
    const at::Tensor b = leaf(random({5, 33}, 30 + tp.index(), kNarrow));
    const std::vector<at::Tensor> y = parallel::gather_linears(x, {a, b}, tp);
    const at::Tensor a_gradient = random(y[0].sizes().vec(), 40 + tp.index(), kNarrow);
    const at::Tensor b_gradient = random(y[1].sizes().vec(), 50 + tp.index(), kNarrow);
    torch::autograd::backward({y[0], y[1]}, {a_gradient, b_gradient});

    const at::Tensor whole = all_gather(x.detach(), 1, tp);
    EXPECT_TRUE(at::equal(y[0], by_piece(whole, 4, [&](const at::Tensor& p) { return gemm(p, a.detach().t()); })));
    EXPECT_TRUE(at::equal(y[1], by_piece(whole, 4, [&](const at::Tensor& p) { return gemm(p, b.detach().t()); })));
    const at::Tensor partial = by_piece(a_gradient, 4, [&](const at::Tensor& p) { return gemm(p, a.detach()); }) +
                               by_piece(b_gradient, 4, [&](const at::Tensor& p) { return gemm(p, b.detach()); });
    EXPECT_TRUE(at::equal(x.grad(), reduce_scatter_sum(partial, 1, tp)));
    EXPECT_TRUE(at::equal(a.grad(), all_rows(a_gradient, whole)));
    EXPECT_TRUE(at::equal(b.grad(), all_rows(b_gradient, whole)));
  });
}

TEST(Async, LinearAndReduceScatterAreBitwiseAGemmForEachPieceAndAReduceScatter) {
  on_tp(4, [](const MeshAxis& tp) {
    const at::Tensor x = leaf(random({kBatch, kLength, 33}, 10 + tp.index(), kNarrow));
    const at::Tensor w = leaf(random({17, 33}, 20 + tp.index(), kNarrow));
    const at::Tensor y = parallel::linear_reduce_scatter(x, w, tp);
    const at::Tensor y_gradient = random(y.sizes().vec(), 30 + tp.index(), kNarrow);
    y.backward(y_gradient);

    const at::Tensor partial = by_piece(x.detach(), 4, [&](const at::Tensor& p) { return gemm(p, w.detach().t()); });
    EXPECT_TRUE(at::equal(y, reduce_scatter_sum(partial, 1, tp)));
    const at::Tensor whole = all_gather(y_gradient, 1, tp);
    EXPECT_TRUE(at::equal(x.grad(), by_piece(whole, 4, [&](const at::Tensor& p) { return gemm(p, w.detach()); })));
    EXPECT_TRUE(at::equal(w.grad(), all_rows(whole, x.detach())));
  });
}

TEST(Async, NeedsSequenceParallelism) {
  model::Seams plain = model::plain_seams();
  EXPECT_THROW(parallel::install_tensor_parallel(plain, MeshAxis(), {.sequence_parallel = false, .async = true}),
               c10::ValueError);
}

// --- vocabulary: 13 rows over 4 ranks are 4, 4, 4 and 1 ---

at::Tensor some_ids() {
  return at::arange(kBatch * kLength, at::kLong).mul_(5).remainder_(kVocab).view({kBatch, kLength});
}

TEST(Embedding, RowsAndTheirGradientAreBitwiseThoseOfTheWholeTable) {
  for (const bool sequence_parallel : {true, false}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const at::Tensor table = random({kVocab, kDim}, 1, dtype),
                       out_gradient = random({kBatch, kLength, kDim}, 2, dtype);
      const at::Tensor whole_table = leaf(table);
      const at::Tensor want = model::embed(whole_table, some_ids());
      want.backward(out_gradient);
      on_tp(4, [&](const MeshAxis& tp) {
        const auto tokens = [&](const at::Tensor& t) { return sequence_parallel ? piece(t, 1, tp) : t; };
        const model::Parameter weight = parameter("tok_embeddings.weight", table, 0, tp);
        const at::Tensor got = seams(tp, {.sequence_parallel = sequence_parallel}).embedding(weight, some_ids());
        got.backward(tokens(out_gradient));
        EXPECT_TRUE(at::equal(got, tokens(want)));
        EXPECT_TRUE(at::equal(weight.weight.grad(), piece(whole_table.grad(), 0, tp)));
      });
    }
  }
}

// Hidden zeros give logits zero, so every token with a label loses log V; the head's gradient is zero, the hidden's is
// 1/V times the sum of the head's rows less the label's row.
TEST(HeadLoss, OfEqualLogitsIsTheLogarithmOfTheVocabulary) {
  const at::Tensor head = random({kVocab, kDim}, 3);
  at::Tensor labels = some_ids();
  labels[0][0].fill_(model::kIgnoreIndex);
  for (const bool loss_parallel : {true, false}) {
    on_tp(4, [&](const MeshAxis& tp) {
      const model::Parameter weight = parameter("lm_head.weight", head, 0, tp);
      const at::Tensor hidden = leaf(at::zeros({kBatch, kLength / 4, kDim}, at::kDouble));
      const at::Tensor loss =
          seams(tp, {.loss_parallel = loss_parallel}).head_loss(hidden, weight, labels, /*scale=*/0.5);
      loss.backward();
      EXPECT_NEAR(loss.item<double>(), 0.5 * (kBatch * kLength - 1) * std::log(double{kVocab}), 1e-12);
      EXPECT_EQ(weight.weight.grad().abs().max().item<double>(), 0);
      const at::Tensor valid = labels.ne(model::kIgnoreIndex).unsqueeze(-1);
      const at::Tensor of_label = head.index_select(0, labels.clamp_min(0).flatten()).view({kBatch, kLength, kDim});
      expect_near(hidden.grad(), piece((head.mean(0) - of_label) * 0.5 * valid, 1, tp), "hidden's gradient");
    });
  }
}

// Large logits: a rank's exponentials overflow unless each is taken from the largest logit. The second seven of the 24
// tokens have no label.
struct WholeHead {
  static constexpr double kScale = 0.25;
  at::Tensor head = random({kVocab, kDim}, 3) * 400, hidden = random({kBatch, kLength, kDim}, 4), labels = some_ids();
  at::Tensor loss, hidden_gradient, head_gradient;

  WholeHead() {
    labels.view(-1).slice(0, 7, 14).fill_(model::kIgnoreIndex);
    const at::Tensor h = leaf(hidden), w = leaf(head);
    loss = model::head_loss(h.flatten(0, 1), w, labels.flatten(), kScale, /*chunk_tokens=*/256);
    loss.backward();
    loss = loss.detach(), hidden_gradient = h.grad(), head_gradient = w.grad();
  }
};

// `head_loss` of this rank's pieces of hidden and head is the loss of the whole, and so are its gradients.
template <typename F>
void expect_whole(const WholeHead& whole, bool sequence_parallel, const MeshAxis& tp, F&& head_loss) {
  const auto tokens = [&](const at::Tensor& t) { return sequence_parallel ? piece(t, 1, tp) : t; };
  const model::Parameter weight = parameter("lm_head.weight", whole.head, 0, tp);
  const at::Tensor h = leaf(tokens(whole.hidden));
  const at::Tensor loss = head_loss(h, weight);
  loss.backward();
  expect_near(loss.detach(), whole.loss, "loss");
  expect_near(h.grad(), tokens(whole.hidden_gradient), "hidden's gradient");
  expect_near(weight.weight.grad(), piece(whole.head_gradient, 0, tp), "head's gradient");
  const at::Tensor all = all_gather(loss.detach(), tp);
  EXPECT_TRUE(at::equal(all, loss.detach().expand(tp.size()))) << "ranks hold other bits of the loss";
}

TEST(HeadLoss, IsThatOfTheWholeHead) {
  const WholeHead whole;
  for (const bool sequence_parallel : {true, false}) {
    for (const bool loss_parallel : {true, false}) {
      on_tp(4, [&](const MeshAxis& tp) {
        const model::Seams cut = seams(tp, {.sequence_parallel = sequence_parallel, .loss_parallel = loss_parallel});
        expect_whole(whole, sequence_parallel, tp, [&](const at::Tensor& h, const model::Parameter& weight) {
          return cut.head_loss(h, weight, whole.labels, WholeHead::kScale);
        });
      });
    }
  }
}

// Chunks of 7, 7, 7 and 3 tokens, each with an exchange of its own.
TEST(HeadLoss, InSeveralChunksIsThatOfTheWholeHead) {
  const WholeHead whole;
  for (const bool sequence_parallel : {true, false}) {
    for (const bool loss_parallel : {true, false}) {
      on_tp(4, [&](const MeshAxis& tp) {
        expect_whole(whole, sequence_parallel, tp, [&](const at::Tensor& h, const model::Parameter& weight) {
          const at::Tensor loss = parallel::head_loss_piece(h, weight, whole.labels, WholeHead::kScale,
                                                            /*chunk_tokens=*/7, loss_parallel, {tp, sequence_parallel});
          const auto flights = tp.instruments()->flights.flights();
          const auto gathers = std::count_if(flights.begin(), flights.end(),
                                             [](const auto& flight) { return flight.operation == "all_gather"; });
          EXPECT_EQ(gathers, sequence_parallel ? 1 + 4 : 4);  // the pieces of hidden come first
          return loss;
        });
      });
    }
  }
}

TEST(Logits, AreWholeOnEveryRankAndSoIsTheirGradient) {
  const at::Tensor head = random({kVocab, kDim}, 3), hidden = random({kBatch, kLength, kDim}, 4);
  const at::Tensor logits_gradient = random({kBatch, kLength, kVocab}, 5);
  on_tp(4, [&](const MeshAxis& tp) {
    const model::Parameter weight = parameter("lm_head.weight", head, 0, tp);
    const at::Tensor h = leaf(piece(hidden, 1, tp));
    const at::Tensor logits = seams(tp).linears(h, {&weight})[0];
    expect_near(logits.detach(), at::linear(hidden, head), "logits");
    logits.backward(logits_gradient);
    expect_near(h.grad(), piece(at::matmul(logits_gradient, head), 1, tp), "hidden's gradient");
    expect_near(weight.weight.grad(), piece(all_rows(logits_gradient, hidden), 0, tp), "head's gradient");
  });
}

// --- experts ---

// One linear layer for each expert, cut on its inputs as w2 is: y_t = sum over j of gate_tj * w[e_tj] x_t.
TEST(Experts, EachRankMultipliesItsPartOfTheHiddenDimOfEveryToken) {
  constexpr int64_t kExperts = 3, kTokens = kBatch * kLength;
  const at::Tensor x = random({kTokens, kDim}, 1), gates = random({kTokens, 2}, 2),
                   w = random({kExperts, kDim, kDim}, 3);
  const at::Tensor chosen = at::stack({at::arange(kTokens), at::arange(kTokens) + 1}, 1).remainder_(kExperts);
  const at::Tensor out_gradient = random({kTokens, kDim}, 4);
  const at::Tensor whole_x = leaf(x), whole_gates = leaf(gates), whole_w = leaf(w);
  const at::Tensor of_choice = whole_w.index_select(0, chosen.flatten()).view({kTokens, 2, kDim, kDim});
  const at::Tensor want = at::einsum("tj,tjoi,ti->to", {whole_gates, of_choice, whole_x});
  want.backward(out_gradient);

  for (const bool sequence_parallel : {true, false}) {
    on_tp(2, [&](const MeshAxis& tp) {
      const model::Seams cut = seams(tp, {.sequence_parallel = sequence_parallel});
      const auto tokens = [&](const at::Tensor& t) { return sequence_parallel ? piece(t, 0, tp) : t; };
      const at::Tensor in = leaf(tokens(x)), g = leaf(tokens(gates)), weight = leaf(piece(w, 2, tp));
      const model::Dispatched to = cut.dispatch(in, tokens(chosen), kExperts);
      EXPECT_EQ(to.counts.sum().item<int64_t>(), 2 * kTokens);
      const at::Tensor partial = model::grouped_linear(piece(to.rows, 1, tp).contiguous(), weight, to.counts);
      const at::Tensor y = cut.combine(partial, g, to.order, to.route);
      y.backward(tokens(out_gradient));
      expect_near(y.detach(), tokens(want.detach()), "y");
      expect_near(in.grad(), tokens(whole_x.grad()), "x's gradient");
      expect_near(g.grad(), tokens(whole_gates.grad()), "the gates' gradient");
      expect_near(weight.grad(), piece(whole_w.grad(), 2, tp), "w's gradient");
    });
  }
}

}  // namespace
}  // namespace qwen3::testing
