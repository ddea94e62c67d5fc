// The loops of the fused operations on every instruction set that this processor has, against float64.
#include "kernels/cpu/row_kernels.h"

#include <c10/util/BFloat16.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace qwen3::kernels::cpu {
namespace {

using Doubles = std::vector<double>;
using Bits = std::vector<uint16_t>;
using Floats = std::vector<float>;

uint16_t to_bfloat16(double x) { return c10::BFloat16(static_cast<float>(x)).x; }
double value(uint16_t bits) { return c10::BFloat16(bits, c10::BFloat16::from_bits()); }
double value(float x) { return x; }

// Values that the element type can hold, so that the oracle starts from the same numbers.
template <typename Element>
std::vector<Element> random(int64_t n, unsigned seed, double low = -1, double high = 1) {
  std::mt19937_64 bits(seed);
  std::uniform_real_distribution<double> uniform(low, high);
  std::vector<Element> values(static_cast<size_t>(n));
  for (Element& v : values) {
    if constexpr (std::is_same_v<Element, uint16_t>) {
      v = to_bfloat16(uniform(bits));
    } else {
      v = static_cast<Element>(uniform(bits));
    }
  }
  return values;
}

template <typename Element>
double relative_l2(const std::vector<Element>& got, const Doubles& want) {
  EXPECT_EQ(got.size(), want.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += std::pow(value(got[i]) - want[i], 2);
    norm += want[i] * want[i];
  }
  return std::sqrt(difference / norm);
}

constexpr double kEps = 1e-6;

struct Case {
  int64_t positions, heads, dim;
  int64_t rows() const { return positions * heads; }
  int64_t size() const { return rows() * dim; }
};
// Whole vectors, tails of every operand, less than one vector, and rows that are not a multiple of anything.
constexpr Case kCases[] = {{4, 2, 128}, {3, 1, 70}, {5, 3, 6}, {1, 1, 48}};

// One operation's results by name, in float64 by the formula and from one instruction set.
template <typename Element>
struct Norm {
  explicit Norm(const Case& c, bool rotated)
      : shape(c),
        rotates(rotated),
        x(random<Element>(c.size(), 1)),
        weight(random<Element>(c.dim, 2, 0.5, 1.5)),
        gradient(random<Element>(c.size(), 3)),
        cos(random<float>(c.positions * c.dim / 2, 4)),
        sin(random<float>(c.positions * c.dim / 2, 5)) {}

  struct Results {
    std::vector<Element> y, x_gradient;
    Floats inverse_rms, weight_gradient;
    bool operator==(const Results&) const = default;
  };
  Results run(const RowKernels& kernels) const {
    Results r{std::vector<Element>(x.size()), std::vector<Element>(x.size()), Floats(shape.rows()), Floats(shape.dim)};
    const float eps = static_cast<float>(kEps);
    if (!rotates) {
      kernels.norm(x.data(), weight.data(), eps, shape.rows(), shape.dim, r.y.data(), r.inverse_rms.data());
      kernels.norm_backward(gradient.data(), x.data(), weight.data(), r.inverse_rms.data(), shape.rows(), shape.dim,
                            r.x_gradient.data(), r.weight_gradient.data());
      return r;
    }
    // In two calls, the second of which begins inside a position where there is more than one head.
    const int64_t split = shape.rows() / 2 + (shape.heads > 1 ? 1 : 0);
    for (const auto& [first, rows] : {std::pair{int64_t{0}, split}, {split, shape.rows() - split}}) {
      const int64_t at = first * shape.dim;
      kernels.norm_rotate(x.data() + at, weight.data(), cos.data(), sin.data(), eps, first, rows, shape.heads,
                          shape.dim, r.y.data() + at, r.inverse_rms.data() + first);
      kernels.norm_rotate_backward(gradient.data() + at, x.data() + at, weight.data(), r.inverse_rms.data() + first,
                                   cos.data(), sin.data(), first, rows, shape.heads, shape.dim,
                                   r.x_gradient.data() + at, r.weight_gradient.data());
    }
    return r;
  }

  // y_i = sum_j R_ij n_j w_j; with u = R^T g: dw_j = sum_rows u_j n_j, dx_j = (u_j w_j - n_j mean(u n w)) / rms.
  void expect_right(const Results& got, double bound) const {
    const int64_t dim = shape.dim, half = dim / 2;
    Doubles y(x.size()), x_gradient(x.size()), weight_gradient(dim), inverse_rms(shape.rows());
    for (int64_t row = 0; row < shape.rows(); ++row) {
      const int64_t at = row * dim, angle = row / shape.heads * half;
      double squares = 0;
      for (int64_t i = 0; i < dim; ++i) squares += value(x[at + i]) * value(x[at + i]);
      const double rms = std::sqrt(squares / static_cast<double>(dim) + kEps);
      inverse_rms[row] = 1 / rms;
      Doubles scaled(dim), u(dim);
      for (int64_t i = 0; i < dim; ++i) scaled[i] = value(x[at + i]) / rms * value(weight[i]);
      for (int64_t i = 0; i < dim; ++i) {
        if (!rotates) {
          y[at + i] = scaled[i];
          u[i] = value(gradient[at + i]);
          continue;
        }
        const int64_t other = i < half ? i + half : i - half;
        const double c = cos[angle + i % half], s = i < half ? -sin[angle + i] : sin[angle + i - half];
        y[at + i] = scaled[i] * c + scaled[other] * s;
        u[i] = value(gradient[at + i]) * c - value(gradient[at + other]) * s;
      }
      double mean = 0;
      for (int64_t i = 0; i < dim; ++i) mean += u[i] * scaled[i] / static_cast<double>(dim);
      for (int64_t i = 0; i < dim; ++i) {
        const double n = value(x[at + i]) / rms;
        weight_gradient[i] += u[i] * n;
        x_gradient[at + i] = (u[i] * value(weight[i]) - n * mean) / rms;
      }
    }
    EXPECT_LE(relative_l2(got.y, y), bound);
    EXPECT_LE(relative_l2(got.x_gradient, x_gradient), bound);
    EXPECT_LE(relative_l2(got.inverse_rms, inverse_rms), 1e-6);  // float32 whatever the element type
    EXPECT_LE(relative_l2(got.weight_gradient, weight_gradient), 1e-6);
  }

  Case shape;
  bool rotates;
  std::vector<Element> x, weight, gradient;
  Floats cos, sin;
};

// Bounds: a few float32 roundings of 6e-8; one rounding to bfloat16, at most 2^-9 = 2e-3.
TEST(RowKernels, NormsEqualTheFormulaForwardAndBackward) {
  for (const InstructionSet& set : instruction_sets()) {
    for (const Case& c : kCases) {
      for (const bool rotated : {false, true}) {
        SCOPED_TRACE(std::string(set.name) + ", dim " + std::to_string(c.dim) + (rotated ? ", rotated" : ""));
        const Norm<float> wide(c, rotated);
        wide.expect_right(wide.run(set.float32), 1e-6);
        const Norm<uint16_t> narrow(c, rotated);
        narrow.expect_right(narrow.run(set.bfloat16), 2e-3);
      }
    }
  }
}

template <typename Element>
struct Swiglu {
  static constexpr int64_t kSize = 16 * 5 + 7;
  std::vector<Element> gate = random<Element>(kSize, 1, -20, 20), up = random<Element>(kSize, 2),
                       gradient = random<Element>(kSize, 3);
  struct Results {
    std::vector<Element> out, gate_gradient, up_gradient;
    bool operator==(const Results&) const = default;
  };
  Results run(const RowKernels& kernels) const {
    Results r{std::vector<Element>(kSize), std::vector<Element>(kSize), std::vector<Element>(kSize)};
    kernels.swiglu(gate.data(), up.data(), kSize, r.out.data());
    kernels.swiglu_backward(gradient.data(), gate.data(), up.data(), kSize, r.gate_gradient.data(),
                            r.up_gradient.data());
    return r;
  }
  void expect_right(const Results& got, double bound) const {
    Doubles out, gate_gradient, up_gradient;
    for (int64_t i = 0; i < kSize; ++i) {
      const double g = value(gate[i]), u = value(up[i]), d = value(gradient[i]), s = 1 / (1 + std::exp(-g));
      out.push_back(g * s * u);
      up_gradient.push_back(d * g * s);
      gate_gradient.push_back(d * u * (s + g * s * (1 - s)));
    }
    EXPECT_LE(relative_l2(got.out, out), bound);
    EXPECT_LE(relative_l2(got.gate_gradient, gate_gradient), bound);
    EXPECT_LE(relative_l2(got.up_gradient, up_gradient), bound);
  }
};

TEST(RowKernels, SwigluEqualsTheFormulaForwardAndBackward) {
  for (const InstructionSet& set : instruction_sets()) {
    SCOPED_TRACE(set.name);
    const Swiglu<float> wide;
    wide.expect_right(wide.run(set.float32), 1e-6);
    const Swiglu<uint16_t> narrow;
    narrow.expect_right(narrow.run(set.bfloat16), 2e-3);
  }
}

TEST(RowKernels, SwigluIsFiniteForEveryFiniteGateAndKeepsNaN) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kMost = std::numeric_limits<float>::max();
  const Floats gate = {-kMost, -1000, -100, -88, 88, 100, 1000, kMost, kNaN}, up(gate.size(), 1);
  for (const InstructionSet& set : instruction_sets()) {
    Floats out(gate.size());
    set.float32.swiglu(gate.data(), up.data(), static_cast<int64_t>(gate.size()), out.data());
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(out[i], 0, gate[i] > -1000 ? 1e-35 : 10) << gate[i];
    for (size_t i = 4; i < 8; ++i) EXPECT_EQ(out[i], gate[i]);
    EXPECT_TRUE(std::isnan(out[8]));
  }
}

TEST(RowKernels, EveryInstructionSetGivesTheSameBits) {
  const InstructionSet& baseline = *instruction_sets().begin();
  for (const InstructionSet& set : instruction_sets()) {
    SCOPED_TRACE(set.name);
    for (const Case& c : kCases) {
      for (const bool rotated : {false, true}) {
        const Norm<float> wide(c, rotated);
        EXPECT_EQ(wide.run(set.float32), wide.run(baseline.float32));
        const Norm<uint16_t> narrow(c, rotated);
        EXPECT_EQ(narrow.run(set.bfloat16), narrow.run(baseline.bfloat16));
      }
    }
    EXPECT_EQ(Swiglu<float>().run(set.float32), Swiglu<float>().run(baseline.float32));
    EXPECT_EQ(Swiglu<uint16_t>().run(set.bfloat16), Swiglu<uint16_t>().run(baseline.bfloat16));
  }
}

// up = 1 and a gate so large that its sigmoid is 1: what comes out is the gate, in and out of bfloat16.
TEST(RowKernels, Bfloat16IsRoundedToNearestEven) {
  constexpr int64_t kSize = 16;
  for (const InstructionSet& set : instruction_sets()) {
    for (unsigned seed = 0; seed < 100; ++seed) {
      const Bits gate = random<uint16_t>(kSize, seed, 100, 1e30), up = random<uint16_t>(kSize, seed + 1000, 1, 2);
      Bits out(kSize);
      set.bfloat16.swiglu(gate.data(), up.data(), kSize, out.data());
      for (int64_t i = 0; i < kSize; ++i) EXPECT_EQ(out[i], to_bfloat16(value(gate[i]) * value(up[i])));
    }
  }
}

TEST(RowKernels, AddIsOneFloat32Addition) {
  constexpr int64_t kSize = 16 * 3 + 5;
  const Bits narrow = random<uint16_t>(kSize, 1);
  const Floats wide = random<float>(kSize, 2), start = random<float>(kSize, 3);
  for (const InstructionSet& set : instruction_sets()) {
    Floats sums = start;
    set.bfloat16.add(narrow.data(), kSize, sums.data());
    set.float32.add(wide.data(), kSize, sums.data());
    for (int64_t i = 0; i < kSize; ++i) {
      EXPECT_EQ(sums[i], start[i] + static_cast<float>(value(narrow[i])) + wide[i]);
    }
  }
}

}  // namespace
}  // namespace qwen3::kernels::cpu
