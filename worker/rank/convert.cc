#include "worker/rank/convert.h"

#include <chrono>
#include <cstdio>
#include <stdexcept>

#include "checkpoint/convert.h"

namespace qwen3::rank {
namespace {

constexpr auto kReportEvery = std::chrono::milliseconds(200);

// A ModelSource that is a resource name was resolved by the service.
checkpoint::Place place_of(const v1::ModelSource& source) {
  if (source.has_hf()) return {checkpoint::Format::kHf, source.hf()};
  if (source.has_native()) return {checkpoint::Format::kNative, source.native()};
  throw std::runtime_error("conversion: from names no folder");
}

}  // namespace

// A cancelled task's ranks are killed: what was half written is a folder that the next run replaces.
void convert(const internal::v1::RankAssignment& assignment, Link& link) {
  const v1::ConversionSpec& spec = assignment.conversion();
  const checkpoint::Place from = place_of(spec.from());
  checkpoint::ConvertOptions options{.dtype = spec.dtype()};
  auto reported = std::chrono::steady_clock::time_point();
  options.progress.report = [&](int64_t done, int64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (done < total && now - reported < kReportEvery) return;
    reported = now;
    link.progress(done, total, "bytes");
  };
  const std::string folder = spec.has_hf() ? spec.hf() : spec.native();
  const auto format = spec.has_hf() ? checkpoint::Format::kHf : checkpoint::Format::kNative;
  const bool writes = spec.to_case() != v1::ConversionSpec::TO_NOT_SET;
  const auto report =
      writes ? checkpoint::convert(from, {format, folder}, options) : checkpoint::verify(from, options.progress);
  if (!report.ok()) throw std::runtime_error(std::string(report.status().message()));
  std::printf("%s %s: %lld tensors, %lld bytes, weights digest %s\n", writes ? "converted" : "verified",
              from.folder.c_str(), static_cast<long long>(report->tensors), static_cast<long long>(report->bytes),
              report->weights_digest.c_str());
  std::fflush(stdout);

  internal::v1::RunFinished finished;
  v1::ConversionResult& result = *finished.mutable_conversion();
  result.set_tensors(report->tensors);
  result.set_bytes(report->bytes);
  result.set_weights_digest(report->weights_digest);
  for (const std::string& problem : report->problems) result.add_problems(problem);
  if (writes) result.set_folder(folder);
  link.finished(finished);
}

}  // namespace qwen3::rank
