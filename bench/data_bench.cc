// Throughput of tokenizer and data, one JSON line each: {"name", "unit", "ours"}. The peer is hf_tokenizer.py.
//   data_bench TIKTOKEN TEXT_FOLDER THREADS [TOKENIZER_JSON: written for the peer, the same vocabulary]
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tokenizer/hf_json.h"
#include "tokenizer/tokenizer.h"
#include "worker/rank/data/dataset.h"

namespace {

using Clock = std::chrono::steady_clock;

// Shortest of five runs: the others were disturbed.
template <typename Work>
double seconds(const Work& work) {
  double best = 1e9;
  for (int run = 0; run < 5; ++run) {
    const Clock::time_point start = Clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

void print(const std::string& name, const std::string& unit, double value) {
  std::cout << nlohmann::ordered_json{{"name", name}, {"unit", unit}, {"ours", value}}.dump() << '\n';
}

std::string text_of(const std::string& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::stringstream text;
  for (const auto& path : paths) text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 && argc != 5) {
    std::cerr << "usage: data_bench TIKTOKEN TEXT_FOLDER THREADS [TOKENIZER_JSON]\n";
    return 2;
  }
  const std::string vocabulary = argv[1];
  const std::string folder = argv[2];
  const int threads = std::stoi(argv[3]);
  const auto load = [&] { return qwen3::tokenizer::Tokenizer::load(vocabulary).value(); };
  print("tokenizer load", "s", seconds(load));
  const qwen3::tokenizer::Tokenizer tokenizer = load();
  if (argc == 5) std::ofstream(argv[4]) << qwen3::tokenizer::to_hf_json(tokenizer.vocabulary());
  const std::string text = text_of(folder);
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  print("tokenizer 1 thread MB/s", "MB/s", megabytes / seconds([&] { tokenizer.encode(text).value(); }));
  print("tokenizer MB/s", "MB/s", megabytes / seconds([&] { tokenizer.encode(text, threads).value(); }));

  const std::string cache = std::filesystem::temp_directory_path() / ("data_bench." + std::to_string(::getpid()));
  qwen3::data::OpenOptions options;
  options.data.path = folder;
  options.data.tokenizer = vocabulary;
  options.data.seq_len = 512;
  options.vocab = tokenizer.vocab_size();
  options.cache_folder = cache;
  const qwen3::data::Splits splits = qwen3::data::open(options);
  const double reading = seconds([&] {
    for (int64_t i = 0; i < splits.train->sequences(); ++i) splits.train->at(i);
  });
  print("dataset tokens/s", "tokens/s", static_cast<double>(splits.train->tokens()) / reading);
  std::filesystem::remove_all(cache);
}
