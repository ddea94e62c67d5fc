#include "worker/rank/trace_file.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>

namespace qwen3::rank {
namespace {

using nlohmann::ordered_json;
using parallel::Timeline;
using Span = Timeline::Span;

constexpr const char* kPhases[] = {"other", "compute", "data", "optimizer"};  // by Timeline::Account

class Events {
 public:
  Events(int64_t rank, const Timeline& timeline, const std::vector<std::string>& units)
      : rank_(rank), timeline_(timeline), units_(units) {
    const std::string process = "rank " + std::to_string(rank);
    list_.push_back({{"name", "process_name"}, {"ph", "M"}, {"pid", rank}, {"args", {{"name", process}}}});
    list_.push_back({{"name", "process_sort_index"}, {"ph", "M"}, {"pid", rank}, {"args", {{"sort_index", rank}}}});
    list_.push_back(
        {{"name", "thread_name"}, {"ph", "M"}, {"pid", rank}, {"tid", 0}, {"args", {{"name", "training"}}}});
  }

  void add(const Span& span) {
    if (span.kind == Span::Kind::kCollective) return add_collective(span);
    ordered_json event = at("X", category(span), name(span), span.begin);
    event["dur"] = std::chrono::duration<double, std::micro>(span.end - span.begin).count();
    list_.push_back(std::move(event));
  }

  ordered_json take() { return std::move(list_); }

 private:
  void add_collective(const Span& span) {
    const std::string label = std::string(span.operation) + " " + timeline_.axis_name(span.account);
    const std::string id = label + " " + std::to_string(span.number);
    ordered_json begin = at("b", "collective", label, span.begin), end = at("e", "collective", label, span.end);
    begin["id"] = end["id"] = id;
    begin["args"] = {{"number", span.number}, {"bytes", span.bytes}};
    list_.push_back(std::move(begin));
    list_.push_back(std::move(end));
  }

  ordered_json at(const char* phase, const char* category, const std::string& name, Timeline::Clock::time_point time) {
    // Of both clocks at once, so that the times of one file agree with each other.
    static const auto offset =
        std::chrono::system_clock::now().time_since_epoch() -
        std::chrono::duration_cast<std::chrono::system_clock::duration>(Timeline::Clock::now().time_since_epoch());
    const std::chrono::duration<double, std::micro> since_1970 = time.time_since_epoch() + offset;
    return {{"name", name}, {"cat", category}, {"ph", phase}, {"ts", since_1970.count()}, {"pid", rank_}, {"tid", 0}};
  }

  static const char* category(const Span& span) {
    switch (span.kind) {
      case Span::Kind::kStep:
        return "step";
      case Span::Kind::kPhase:
        return "phase";
      case Span::Kind::kWait:
        return "wait";
      default:
        return "unit";
    }
  }

  std::string name(const Span& span) const {
    switch (span.kind) {
      case Span::Kind::kStep:
        return "step " + std::to_string(span.number);
      case Span::Kind::kPhase:
        return kPhases[span.account];
      case Span::Kind::kWait:
        return "wait " + timeline_.axis_name(span.account);
      case Span::Kind::kForward:
        return "forward " + units_.at(static_cast<size_t>(span.number));
      default:
        return "backward " + units_.at(static_cast<size_t>(span.number));
    }
  }

  int64_t rank_;
  const Timeline& timeline_;
  const std::vector<std::string>& units_;
  ordered_json list_ = ordered_json::array();
};

}  // namespace

void write_trace(const std::string& path, int64_t rank, const Timeline& timeline, const Timeline::Kept& kept,
                 const std::vector<std::string>& units) {
  Events events(rank, timeline, units);
  for (const Span& span : kept.spans) events.add(span);
  const ordered_json trace = {
      {"displayTimeUnit", "ms"}, {"otherData", {{"dropped_spans", kept.dropped}}}, {"traceEvents", events.take()}};
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  const std::string temporary = path + ".tmp";
  std::ofstream file(temporary);
  file << trace.dump() << '\n';
  file.close();
  if (!file) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);  // half a trace only fills the disk further
    throw std::runtime_error("cannot write " + temporary);
  }
  std::filesystem::rename(temporary, path);
}

}  // namespace qwen3::rank
