// Optimizer steps of the real trainer on random tokens. The peer is hf_step.py: same steps, same keys. Prints one JSON
// line. With --profile, also where the time goes: self time of every operation, one row each, stderr.
// One rank, or several as processes over Gloo on loopback: then CPU time and memory are those of the first.
#include <ATen/Parallel.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "bench/op_profile.h"
#include "bench/rank_processes.h"
#include "kernels/cpu/recycling_allocator.h"
#include "parallel/mesh.h"
#include "spec/flavor.h"
#include "spec/rules.h"
#include "worker/rank/trainer.h"

namespace {

using namespace qwen3;
using Clock = std::chrono::steady_clock;

// Random ids, one document a sequence; a pure function of the index.
class RandomText : public data::Dataset {
 public:
  RandomText(int64_t sequences, int64_t seq_len, int64_t vocab)
      : sequences_(sequences), seq_len_(seq_len), vocab_(vocab) {}
  int64_t sequences() const override { return sequences_; }
  int64_t tokens() const override { return sequences_ * seq_len_; }
  data::Sample at(int64_t index) const override {
    std::mt19937_64 random(static_cast<uint64_t>(index));
    std::uniform_int_distribution<int64_t> id(0, vocab_ - 1);
    data::Sample sample;
    for (int64_t s = 0; s < seq_len_; ++s) {
      sample.ids.push_back(id(random));
      sample.positions.push_back(s);
    }
    sample.labels.assign(sample.ids.begin() + 1, sample.ids.end());
    sample.labels.push_back(-100);
    return sample;
  }

 private:
  int64_t sequences_, seq_len_, vocab_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double cpu_seconds(const rusage& usage) {
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * double(t.tv_usec); };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

rusage usage_now() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times optimizer steps of the real trainer on random tokens."};
  std::string flavor = "debugmodel", precision = "bfloat16";
  int64_t vocab = 0, batch = 8, seq_len = 512, steps = 4, warm_up = 2;
  int64_t shard = 1, tensor_parallel = 1, expert_parallel = 1;
  int threads = 2;
  bool profile = false;
  app.add_option("--flavor", flavor, "Model size")->capture_default_str();
  app.add_option("--vocab", vocab, "Vocabulary; default: the flavor's");
  app.add_option("--precision", precision, "Dtype of compute")
      ->check(CLI::IsMember({"bfloat16", "float32"}))
      ->capture_default_str();
  app.add_option("--batch", batch, "Sequences a step, over all ranks")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seq-len", seq_len, "Tokens a sequence")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--steps", steps, "Steps that are timed")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--warm-up", warm_up, "Steps before those")->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_option("--shard", shard, "data_parallel_shard_degree")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--tensor-parallel", tensor_parallel, "tensor_parallel_degree")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--expert-parallel", expert_parallel, "expert_parallel_degree")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--threads", threads, "Of OpenMP, each rank")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_flag("--profile", profile, "Self time of every operation of the timed steps, on stderr");
  CLI11_PARSE(app, argc, argv);

  const spec::ModelShape* shape = spec::find_flavor(flavor);
  if (shape == nullptr) {
    std::cerr << "step_bench: --flavor: no flavor is called '" << flavor << "'\n";
    return 2;
  }
  spec::RunSpec run;
  run.mesh.degrees[static_cast<int>(spec::Axis::kDpShard)] = shard;
  run.mesh.degrees[static_cast<int>(spec::Axis::kTp)] = tensor_parallel;
  run.mesh.ep = expert_parallel;
  if (batch % shard != 0) {
    std::cerr << "step_bench: --batch " << batch << " is no multiple of --shard " << shard << '\n';
    return 2;
  }
  run.model = *shape;
  if (vocab > 0) run.model.vocab = vocab;
  run.data = {.local_batch_size = batch / shard, .seq_len = seq_len};
  run.global_batch_size = batch;
  run.steps = warm_up + steps;
  run.optimizer.lr = 1e-4;
  run.lr_schedule = {.warmup_steps = 0, .total_steps = run.steps};
  run.precision = precision == "bfloat16" ? spec::Precision::kBfloat16 : spec::Precision::kFloat32;

  for (const spec::Violation& violation : spec::check_rules(run)) {
    std::cerr << "step_bench: " << violation.message << '\n';
    return 2;
  }
  bench::RankProcesses ranks(run.mesh.world_size());  // before anything starts a thread
  kernels::install_recycling_allocator();
  at::set_num_threads(threads);
  const parallel::DeviceMesh mesh(run.mesh, ranks.rank(), ranks.rendezvous());
  const auto text = std::make_shared<RandomText>(batch * run.steps, seq_len, run.model.vocab);
  rank::Trainer trainer(run, mesh, {text, nullptr});

  double loss = 0;
  for (int64_t step = 1; step <= warm_up; ++step) loss = trainer.step(step, {}).metrics.loss;
  if (profile) bench::start_op_profile();
  std::vector<double> wall, cpu;
  for (int64_t step = warm_up + 1; step <= run.steps; ++step) {
    const double cpu_before = cpu_seconds(usage_now());
    const Clock::time_point start = Clock::now();
    loss = trainer.step(step, {}).metrics.loss;
    wall.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    cpu.push_back(cpu_seconds(usage_now()) - cpu_before);
  }
  if (ranks.rank() > 0) return 0;
  if (profile) bench::print_op_profile(std::cerr, steps);

  const double tokens = static_cast<double>(batch * seq_len);
  std::cout << nlohmann::ordered_json{{"flavor", flavor},
                                      {"vocab", run.model.vocab},
                                      {"precision", precision},
                                      {"batch", batch},
                                      {"seq_len", seq_len},
                                      {"ranks", run.mesh.world_size()},
                                      {"threads", threads},
                                      {"loss", loss},
                                      {"tokens_per_second", tokens / median(wall)},
                                      {"step_seconds", wall},
                                      {"step_cpu_seconds", cpu},
                                      {"peak_tensor_bytes", kernels::peak_bytes()},
                                      {"peak_rss_bytes", int64_t{usage_now().ru_maxrss} * 1024}}
                   .dump()
            << '\n';
  return ranks.wait() ? 0 : 1;
}
