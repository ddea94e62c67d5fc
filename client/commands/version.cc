#include <ostream>

#include "client/commands/commands.h"
#include "client/format/json.h"
#include "spec/build_info/build_info.h"

namespace qwen3::client {

Result version(Context& context) {
  const auto server = context.client().server_info();
  if (context.json()) {
    v1::ServerInfo own;
    own.set_version(std::string(qwen3::version()));
    own.set_build_id(std::string(build_id()));
    context.out() << "{\"client\":" << to_json(own) << ",\"server\":" << (server.ok() ? to_json(*server) : "null")
                  << "}\n";
    return 0;
  }
  context.out() << "client: " << qwen3::version() << " (" << build_id() << ")\nserver: ";
  if (server.ok()) {
    context.out() << server->version() << " (" << server->build_id() << ") at " << context.client().address() << '\n';
  } else {
    context.out() << "not reachable at " << context.client().address() << '\n';
  }
  return 0;
}

}  // namespace qwen3::client
