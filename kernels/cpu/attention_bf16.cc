// Compiled for AVX-512 with bfloat16; see lanes.h about what may be included. Blocks of 64 queries: their scores
// against all keys up to the last of them lie in scratch memory as float32, so softmax needs no second pass over the
// keys. All five products of the two directions are one routine: rows of A, given as pairs of neighbours in the summed
// dimension with any two strides (so a transpose costs nothing), times B packed in panels of 32 columns.
#include "kernels/cpu/attention_bf16.h"

#include <immintrin.h>

#include "kernels/cpu/lanes.h"

namespace qwen3::kernels::cpu {
namespace {

constexpr int64_t kQueries = 64;  // in a block
constexpr int64_t kPanel = 32;    // columns of B that lie together
constexpr int64_t kTile = 8;      // rows of A taken at once: with a panel, 16 registers of sums

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Two neighbours in the summed dimension, the first in the low half.
struct Pairs {
  const uint32_t* data;
  int64_t row_stride, pair_stride;  // in pairs
};
Pairs rows_of(const uint16_t* data, int64_t stride) { return {reinterpret_cast<const uint32_t*>(data), stride / 2, 1}; }
Pairs columns_of(const uint32_t* pairs, int64_t columns) { return {pairs, 1, columns}; }

template <int kRows>
void tile(const Pairs& a, const uint32_t* panel, int64_t pairs, float* c, int64_t c_stride, bool accumulate) {
  __m512 low[kRows], high[kRows];
  for (int r = 0; r < kRows; ++r) {
    low[r] = accumulate ? _mm512_loadu_ps(c + r * c_stride) : _mm512_setzero_ps();
    high[r] = accumulate ? _mm512_loadu_ps(c + r * c_stride + kLanes) : _mm512_setzero_ps();
  }
  for (int64_t p = 0; p < pairs; ++p) {
    const __m512bh b_low = reinterpret_cast<__m512bh>(_mm512_loadu_si512(panel + p * kPanel));
    const __m512bh b_high = reinterpret_cast<__m512bh>(_mm512_loadu_si512(panel + p * kPanel + kLanes));
    const uint32_t* at = a.data + p * a.pair_stride;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512bh pair = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(at[r * a.row_stride])));
      low[r] = _mm512_dpbf16_ps(low[r], pair, b_low);
      high[r] = _mm512_dpbf16_ps(high[r], pair, b_high);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    _mm512_storeu_ps(c + r * c_stride, low[r]);
    _mm512_storeu_ps(c + r * c_stride + kLanes, high[r]);
  }
}

// c [rows, columns] (+)= A [rows, 2 * pairs] B; columns a multiple of 32; B's panels are panel_size words apart.
void multiply(Pairs a, int64_t rows, const uint32_t* b, int64_t panel_size, int64_t columns, int64_t pairs, float* c,
              int64_t c_stride, bool accumulate = false) {
  using Tile = void (*)(const Pairs&, const uint32_t*, int64_t, float*, int64_t, bool);
  static constexpr Tile kTiles[] = {tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>, tile<7>, tile<8>};
  for (int64_t column = 0; column < columns; column += kPanel) {
    const uint32_t* panel = b + column / kPanel * panel_size;
    Pairs at = a;
    for (int64_t row = 0; row < rows; row += kTile, at.data += kTile * a.row_stride) {
      kTiles[smaller(kTile, rows - row) - 1](at, panel, pairs, c + row * c_stride + column, c_stride, accumulate);
    }
  }
}

// B = x^T for x [rows, dim]: panels of 32 rows of x, [panel][dim / 2][32]; rows past the end are zeros.
void pack_transposed(const HeadRows& x, int64_t rows, int64_t dim, uint32_t* out) {
  const int64_t pairs = dim / 2;
  for (int64_t row = 0; row < round_up(rows, kPanel); ++row) {
    uint32_t* to = out + row / kPanel * pairs * kPanel + row % kPanel;
    const auto* from = reinterpret_cast<const uint32_t*>(x.row(row));
    for (int64_t p = 0; p < pairs; ++p) to[p * kPanel] = row < rows ? from[p] : 0;
  }
}

// Rows 2 p and 2 p + 1 interleaved: out[p][column]. A row past the end counts as zeros.
void interleave(const uint16_t* first, const uint16_t* second, int64_t columns, uint32_t* out) {
  for (int64_t i = 0; i < columns; i += kLanes) {
    const Words low = __builtin_convertvector(load_bits<Shorts>(first + i, kLanes), Words);
    const Words high = second ? __builtin_convertvector(load_bits<Shorts>(second + i, kLanes), Words) : Words{};
    store_bits(out + i, low | high << 16, kLanes);
  }
}

// B = x [rows, dim]: panels of 32 columns, [panel][pairs][32], `panel_pairs` pairs long.
void pack(const HeadRows& x, int64_t rows, int64_t dim, int64_t panel_pairs, uint32_t* out) {
  for (int64_t row = 0; row < rows; row += 2) {
    for (int64_t column = 0; column < dim; column += kPanel) {
      interleave(x.row(row) + column, row + 1 < rows ? x.row(row + 1) + column : nullptr, kPanel,
                 out + (column / kPanel * panel_pairs + row / 2) * kPanel);
    }
  }
}

void store_rows(const float* from, int64_t rows, int64_t dim, const MutableHeadRows& to, int64_t first) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < dim; i += kLanes) {
      Bfloat16::store(to.row(first + row) + i, Float32::load(from + row * dim + i, kLanes), kLanes);
    }
  }
}

// Lanes from the n-th on are replaced.
Vector first_lanes(const Vector& x, int64_t n, float otherwise) {
  const Words lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return lane < static_cast<uint32_t>(n < kLanes ? n : kLanes) ? x : Vector{} + otherwise;
}

float largest_of(const Vector& lanes) {
  float largest = lanes[0];
  for (int64_t i = 1; i < kLanes; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
  return largest;
}

// Hands out pieces of the scratch memory.
struct Scratch {
  char* next;
  template <typename T>
  T* take(int64_t n) {
    T* piece = reinterpret_cast<T*>(next);
    next += round_up(n * static_cast<int64_t>(sizeof(T)), 64);
    return piece;
  }
};

}  // namespace

bool has_attention_bf16() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bf16");
}

int64_t attention_bf16_scratch(const AttentionShape& shape) {
  const int64_t keys = round_up(shape.length, kQueries), dim = shape.dim;
  const int64_t packed = 4 * keys * dim * 2;                 // k, v and their transposes; backward takes three of them
  const int64_t sums = 2 * keys * dim * 4;                   // gradients of k and v
  const int64_t scores = kQueries * keys * (2 * 4 + 4 * 2);  // two in float32, two in bfloat16 in both orders
  return packed + sums + scores + 4 * kQueries * dim * 4 + 16 * 64;
}

void attention_bf16(const AttentionShape& shape, int64_t heads, const HeadRows* q, HeadRows k, HeadRows v,
                    const MutableHeadRows* out, float* const* log_sum_exp, void* scratch) {
  const int64_t length = shape.length, dim = shape.dim, keys = round_up(length, kQueries);
  Scratch memory{static_cast<char*>(scratch)};
  auto* k_transposed = memory.take<uint32_t>(keys * dim / 2);
  auto* v_packed = memory.take<uint32_t>(keys * dim / 2);
  auto* scores = memory.take<float>(kQueries * keys);
  auto* p = memory.take<uint16_t>(kQueries * keys);
  auto* block_out = memory.take<float>(kQueries * dim);
  pack_transposed(k, length, dim, k_transposed);
  pack(v, length, dim, keys / 2, v_packed);
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t first = 0; first < length; first += kQueries) {
      const int64_t rows = smaller(kQueries, length - first), end = first + rows, padded = round_up(end, kPanel);
      multiply(rows_of(q[head].row(first), q[head].stride), rows, k_transposed, dim / 2 * kPanel, padded, dim / 2,
               scores, keys);
      float inverse_sums[kQueries];
      for (int64_t row = 0; row < rows; ++row) {
        const float* s = scores + row * keys;
        const int64_t seen = first + row + 1;  // keys
        Vector largest = Vector{} - __builtin_inff();
        for (int64_t i = 0; i < seen; i += kLanes) {
          const Vector x = first_lanes(Float32::load(s + i, kLanes), seen - i, -__builtin_inff());
          largest = x > largest ? x : largest;
        }
        const float most = largest_of(largest);
        Vector sum{};
        int64_t i = 0;
        for (; i < seen; i += kLanes) {
          const Vector e = exponential((Float32::load(s + i, kLanes) - most) * shape.scale);
          const Vector masked = first_lanes(e, seen - i, 0);
          sum += masked;
          Bfloat16::store(p + row * keys + i, masked, kLanes);
        }
        for (; i < padded; i += kLanes) Bfloat16::store(p + row * keys + i, Vector{}, kLanes);
        const float total = sum_of(sum);
        inverse_sums[row] = 1.0f / total;
        log_sum_exp[head][first + row] = most * shape.scale + __builtin_logf(total);
      }
      multiply(rows_of(p, keys), rows, v_packed, keys / 2 * kPanel, dim, (end + 1) / 2, block_out, dim);
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t i = 0; i < dim; i += kLanes) {
          float* at = block_out + row * dim + i;
          Float32::store(at, Float32::load(at, kLanes) * inverse_sums[row], kLanes);
        }
      }
      store_rows(block_out, rows, dim, out[head], first);
    }
  }
}

// With P the probabilities and G the gradient: dV = P^T G, dP = G V^T, dS = P (dP - rows' sum of G out) scale,
// dQ = dS K, dK = dS^T Q.
void attention_bf16_backward(const AttentionShape& shape, int64_t heads, const HeadRows* gradient, const HeadRows* q,
                             HeadRows k, HeadRows v, const HeadRows* out, const float* const* log_sum_exp,
                             const MutableHeadRows* q_gradient, MutableHeadRows k_gradient, MutableHeadRows v_gradient,
                             void* scratch) {
  const int64_t length = shape.length, dim = shape.dim, keys = round_up(length, kQueries);
  Scratch memory{static_cast<char*>(scratch)};
  auto* k_transposed = memory.take<uint32_t>(keys * dim / 2);
  auto* v_transposed = memory.take<uint32_t>(keys * dim / 2);
  auto* k_packed = memory.take<uint32_t>(keys * dim / 2);
  auto* k_sums = memory.take<float>(keys * dim);
  auto* v_sums = memory.take<float>(keys * dim);
  auto* scores = memory.take<float>(kQueries * keys);
  auto* p_gradients = memory.take<float>(kQueries * keys);
  auto* p = memory.take<uint16_t>(kQueries * keys);
  auto* score_gradients = memory.take<uint16_t>(kQueries * keys);
  auto* p_pairs = memory.take<uint32_t>(kQueries / 2 * keys);
  auto* score_gradient_pairs = memory.take<uint32_t>(kQueries / 2 * keys);
  auto* block_q = memory.take<uint32_t>(kQueries / 2 * dim);
  auto* block_gradient = memory.take<uint32_t>(kQueries / 2 * dim);
  auto* block_q_gradient = memory.take<float>(kQueries * dim);
  pack_transposed(k, length, dim, k_transposed);
  pack_transposed(v, length, dim, v_transposed);
  pack(k, length, dim, keys / 2, k_packed);
  __builtin_memset(k_sums, 0, sizeof(float) * keys * dim);
  __builtin_memset(v_sums, 0, sizeof(float) * keys * dim);
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t first = 0; first < length; first += kQueries) {
      const int64_t rows = smaller(kQueries, length - first), end = first + rows, padded = round_up(end, kPanel);
      const HeadRows g{gradient[head].row(first), gradient[head].stride}, queries{q[head].row(first), q[head].stride};
      multiply(rows_of(queries.data, queries.stride), rows, k_transposed, dim / 2 * kPanel, padded, dim / 2, scores,
               keys);
      multiply(rows_of(g.data, g.stride), rows, v_transposed, dim / 2 * kPanel, padded, dim / 2, p_gradients, keys);
      for (int64_t row = 0; row < rows; ++row) {
        Vector along{};
        for (int64_t i = 0; i < dim; i += kLanes) {
          along += Bfloat16::load(g.row(row) + i, kLanes) * Bfloat16::load(out[head].row(first + row) + i, kLanes);
        }
        const float mean = sum_of(along), log_sum = log_sum_exp[head][first + row];
        const int64_t seen = first + row + 1, at = row * keys;
        int64_t i = 0;
        for (; i < seen; i += kLanes) {
          const Vector e = exponential(Float32::load(scores + at + i, kLanes) * shape.scale - log_sum);
          const Vector probability = first_lanes(e, seen - i, 0);
          Bfloat16::store(p + at + i, probability, kLanes);
          const Vector difference = Float32::load(p_gradients + at + i, kLanes) - mean;
          Bfloat16::store(score_gradients + at + i, first_lanes(e * difference * shape.scale, seen - i, 0), kLanes);
        }
        for (; i < padded; i += kLanes) {
          Bfloat16::store(p + at + i, Vector{}, kLanes);
          Bfloat16::store(score_gradients + at + i, Vector{}, kLanes);
        }
      }
      multiply(rows_of(score_gradients, keys), rows, k_packed, keys / 2 * kPanel, dim, (end + 1) / 2, block_q_gradient,
               dim);
      store_rows(block_q_gradient, rows, dim, q_gradient[head], first);

      const int64_t pairs = (rows + 1) / 2;
      for (int64_t pair = 0; pair < pairs; ++pair) {
        const int64_t at = 2 * pair * keys;
        const bool both = 2 * pair + 1 < rows;
        interleave(p + at, both ? p + at + keys : nullptr, padded, p_pairs + pair * keys);
        interleave(score_gradients + at, both ? score_gradients + at + keys : nullptr, padded,
                   score_gradient_pairs + pair * keys);
      }
      pack(g, rows, dim, kQueries / 2, block_gradient);
      pack(queries, rows, dim, kQueries / 2, block_q);
      multiply(columns_of(p_pairs, keys), end, block_gradient, kQueries / 2 * kPanel, dim, pairs, v_sums, dim, true);
      multiply(columns_of(score_gradient_pairs, keys), end, block_q, kQueries / 2 * kPanel, dim, pairs, k_sums, dim,
               true);
    }
  }
  store_rows(k_sums, length, dim, k_gradient, 0);
  store_rows(v_sums, length, dim, v_gradient, 0);
}

}  // namespace qwen3::kernels::cpu
