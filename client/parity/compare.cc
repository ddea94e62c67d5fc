#include "client/parity/compare.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "checkpoint/safetensors.h"

namespace qwen3::client {
namespace {

// One file's logits, read row by row.
class Logits {
 public:
  static absl::StatusOr<Logits> open(const std::string& path) {
    auto header = checkpoint::read_safetensors_header(path);
    if (!header.ok()) return header.status();
    const auto found = header->tensors.find("logits");
    if (found == header->tensors.end()) {
      return absl::InvalidArgumentError(absl::StrCat(path, " has no tensor \"logits\" [B, S, V]"));
    }
    const checkpoint::TensorEntry& entry = found->second;
    const bool known = entry.dtype == checkpoint::Dtype::kFloat32 || entry.dtype == checkpoint::Dtype::kFloat64;
    if (!known || entry.shape.size() != 3 || entry.shape[2] < 1) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": \"logits\" is ", checkpoint::dtype_name(entry.dtype),
                                                     " [", absl::StrJoin(entry.shape, ", "),
                                                     "]; it must be F32 or F64 [B, S, V]"));
    }
    return Logits(path, *std::move(header));
  }

  const std::vector<int64_t>& shape() const { return header_.tensors.at("logits").shape; }

  absl::Status read(int64_t row, std::vector<double>& into) {
    const checkpoint::Dtype dtype = header_.tensors.at("logits").dtype;
    bytes_.resize(into.size() * checkpoint::item_size(dtype));
    const auto status =
        checkpoint::read_tensor_bytes(path_, header_, "logits", row * static_cast<int64_t>(bytes_.size()), bytes_);
    if (!status.ok()) return status;
    for (size_t i = 0; i < into.size(); ++i) {
      if (dtype == checkpoint::Dtype::kFloat64) {
        std::memcpy(&into[i], bytes_.data() + i * sizeof(double), sizeof(double));
      } else {
        float value;
        std::memcpy(&value, bytes_.data() + i * sizeof(float), sizeof(float));
        into[i] = value;
      }
    }
    return absl::OkStatus();
  }

 private:
  Logits(std::string path, checkpoint::SafetensorsHeader header) : path_(std::move(path)), header_(std::move(header)) {}

  std::string path_;
  checkpoint::SafetensorsHeader header_;
  std::vector<std::byte> bytes_;
};

double log_sum_exp(const std::vector<double>& values) {
  const double greatest = *std::ranges::max_element(values);
  double sum = 0;
  for (const double value : values) sum += std::exp(value - greatest);
  return greatest + std::log(sum);
}

bool is_finite(const std::vector<double>& values) {
  return std::ranges::all_of(values, [](double value) { return std::isfinite(value); });
}

// KL(p || q) of the two softmaxes. With d = log p - log q it is the sum of p (d + exp(-d) - 1), which equals the sum of
// p d because both sum to one, and has no negative term: nothing cancels, so that 1e-15 is still told from 0.
double kl_divergence(const std::vector<double>& p, const std::vector<double>& q) {
  const double p_norm = log_sum_exp(p), q_norm = log_sum_exp(q);
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double log_p = p[i] - p_norm;
    const double d = log_p - (q[i] - q_norm);
    sum += std::exp(log_p) * (d + std::expm1(-d));
  }
  return sum;
}

}  // namespace

absl::StatusOr<LogitComparison> compare_logits(const std::string& reference, const std::string& ours) {
  auto expected = Logits::open(reference);
  if (!expected.ok()) return expected.status();
  auto actual = Logits::open(ours);
  if (!actual.ok()) return actual.status();
  const std::vector<int64_t>& shape = expected->shape();
  if (actual->shape() != shape) {
    return absl::InvalidArgumentError(absl::StrCat("logits of ", reference, " are [", absl::StrJoin(shape, ", "),
                                                   "], those of ", ours, " [", absl::StrJoin(actual->shape(), ", "),
                                                   "]"));
  }
  LogitComparison result{.rows = shape[0] * shape[1], .vocab = shape[2]};
  std::vector<double> p(shape[2]), q(shape[2]);
  double sum = 0;
  for (int64_t row = 0; row < result.rows; ++row) {
    if (absl::Status status = expected->read(row, p); !status.ok()) return status;
    if (absl::Status status = actual->read(row, q); !status.ok()) return status;
    if (!is_finite(p) || !is_finite(q)) {
      ++result.not_finite;
      continue;
    }
    const double kl = kl_divergence(p, q);
    sum += kl;
    result.max_kl = std::max(result.max_kl, kl);
    for (size_t i = 0; i < p.size(); ++i)
      result.max_difference = std::max(result.max_difference, std::abs(p[i] - q[i]));
    result.same_argmax += std::ranges::max_element(p) - p.begin() == std::ranges::max_element(q) - q.begin();
  }
  const int64_t counted = result.rows - result.not_finite;
  if (counted > 0) result.mean_kl = sum / static_cast<double>(counted);
  return result;
}

ParityLimits parity_limits(const std::string& dtype) {
  if (dtype == "bfloat16") return {5e-3, std::numeric_limits<double>::infinity()};
  return {1e-10, 1e-4};
}

bool passes(const LogitComparison& comparison, const ParityLimits& limits) {
  return comparison.rows > 0 && comparison.not_finite == 0 && comparison.mean_kl <= limits.mean_kl &&
         comparison.max_difference <= limits.difference;
}

}  // namespace qwen3::client
