#include "client/local/state.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace qwen3::client::local {
namespace {

using Json = nlohmann::ordered_json;

std::string state_file(const std::string& dir) { return dir + "/local.json"; }

Json process_json(const ProcessId& process) {
  return {{"pid", process.pid}, {"start_time", process.start_time}, {"boot_id", process.boot_id}};
}

ProcessId process_from(const Json& json) {
  return {.pid = json.at("pid"), .start_time = json.at("start_time"), .boot_id = json.at("boot_id")};
}

Json member_json(const Member& member) {
  return {{"name", member.name}, {"process", process_json(member.process)}, {"restarts", member.restarts}};
}

Member member_from(const Json& json) {
  return {.name = json.at("name"), .process = process_from(json.at("process")), .restarts = json.at("restarts")};
}

Ports ports_from(const Json& json) {
  return {.api = json.at("api"), .worker = json.at("worker"), .http = json.at("http")};
}

}  // namespace

std::optional<LocalState> load_state(const std::string& dir) try {
  std::ifstream file(state_file(dir));
  if (!file) return std::nullopt;
  const Json json = Json::parse(file);
  LocalState state{.dir = dir,
                   .address = json.at("address"),
                   .ports = ports_from(json.at("ports")),
                   .slots = json.at("slots"),
                   .supervisor = process_from(json.at("supervisor")),
                   .coordinator = member_from(json.at("coordinator"))};
  for (const Json& worker : json.at("workers")) state.workers.push_back(member_from(worker));
  return state;
} catch (const Json::exception&) {
  return std::nullopt;
}

void save_state(const LocalState& state) {
  Json workers = Json::array();
  for (const Member& worker : state.workers) workers.push_back(member_json(worker));
  const Json json = {
      {"address", state.address},
      {"ports", {{"api", state.ports.api}, {"worker", state.ports.worker}, {"http", state.ports.http}}},
      {"slots", state.slots},
      {"supervisor", process_json(state.supervisor)},
      {"coordinator", member_json(state.coordinator)},
      {"workers", workers},
  };
  const std::string target = state_file(state.dir);
  const std::string temporary = target + ".tmp";
  std::ofstream file(temporary);
  file << json.dump(2) << '\n';
  file.close();
  if (!file) throw std::runtime_error("cannot write " + temporary);
  std::filesystem::rename(temporary, target);
}

void remove_state(const std::string& dir) { std::filesystem::remove(state_file(dir)); }

std::optional<Ports> load_ports(const std::string& file) try {
  std::ifstream input(file);
  if (!input) return std::nullopt;
  return ports_from(Json::parse(input));
} catch (const Json::exception&) {
  return std::nullopt;
}

}  // namespace qwen3::client::local
