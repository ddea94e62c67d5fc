// Conversion of a model of random bfloat16 weights: Hugging Face folder -> checkpoint of ours -> Hugging Face folder.
// Prints one JSON line: MB of tensor data read per second each way, peak RSS, and whether every way gave the same
// digest.
//
// usage: convert_bench FLAVOR FOLDER    FOLDER/hf stays for the peer; the rest is removed
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>

#include "checkpoint/convert.h"
#include "checkpoint/float_conversion.h"
#include "checkpoint/hf/export.h"
#include "spec/parameters.h"

namespace {

using namespace qwen3;
namespace ckpt = qwen3::checkpoint;

// Weights that are nowhere: small bfloat16 numbers made of tensor and index.
class RandomSource : public ckpt::TensorSource {
 public:
  explicit RandomSource(const spec::ModelShape& model) : model_(model) {
    for (spec::ParameterShape& p : spec::parameters(model)) {
      tensors_.push_back({std::move(p.name), std::move(p.shape), ckpt::Dtype::kBfloat16});
    }
  }
  const spec::ModelShape& model() const override { return model_; }
  const std::vector<ckpt::SourceTensor>& tensors() const override { return tensors_; }
  absl::Status read_box(std::string_view name, const spec::Box& box, std::span<std::byte> into,
                        ckpt::Dtype as) const override {
    std::vector<uint16_t> bits(into.size() / static_cast<size_t>(ckpt::item_size(as)));
    uint64_t state = std::hash<std::string_view>{}(name) + static_cast<uint64_t>(box.begin[0]) + 1;
    for (uint16_t& value : bits) {
      state = state * 6364136223846793005 + 1442695040888963407;
      value = static_cast<uint16_t>((state >> 48 & 0x80ff) | 0x3c00);  // +-0.0078 to 0.031
    }
    ckpt::convert_values(std::as_bytes(std::span(bits)), ckpt::Dtype::kBfloat16, into, as);
    return absl::OkStatus();
  }

 private:
  spec::ModelShape model_;
  std::vector<ckpt::SourceTensor> tensors_;
};

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "convert_bench: %s\n", what.c_str());
  std::exit(1);
}

// MB of source data per second.
double timed(const ckpt::Place& from, const ckpt::Place& to, std::string* digest) {
  const auto start = std::chrono::steady_clock::now();
  const auto report = ckpt::convert(from, to);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (!report.ok()) fail(std::string(report.status().message()));
  *digest = report->weights_digest;
  return static_cast<double>(report->bytes) / 1e6 / seconds.count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) fail("usage: convert_bench FLAVOR FOLDER");
  const spec::ModelShape* flavor = spec::find_flavor(argv[1]);
  if (flavor == nullptr) fail(std::string("no flavor is called ") + argv[1]);
  const std::string folder = argv[2];
  std::filesystem::create_directories(folder);
  const ckpt::Place hf{ckpt::Format::kHf, folder + "/hf"}, native{ckpt::Format::kNative, folder + "/native"},
      back{ckpt::Format::kHf, folder + "/back"};
  const auto made = ckpt::export_hf(RandomSource(*flavor), {.dtype = "bfloat16"}, hf.folder);
  if (!made.ok()) fail(std::string(made.status().message()));

  std::string there_digest, back_digest;
  const double there = timed(hf, native, &there_digest);
  const double home = timed(native, back, &back_digest);
  const auto verified = ckpt::verify(back);
  if (!verified.ok()) fail(std::string(verified.status().message()));
  if (there_digest != *made || back_digest != *made || verified->weights_digest != *made ||
      !verified->problems.empty()) {
    fail("the weights that came back are not those that went");
  }
  std::filesystem::remove_all(native.folder);
  std::filesystem::remove_all(back.folder);
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::printf("{\"to_native_mb_per_second\": %.1f, \"to_hf_mb_per_second\": %.1f, \"peak_rss_bytes\": %lld}\n", there,
              home, static_cast<long long>(usage.ru_maxrss) * 1024);
  return 0;
}
