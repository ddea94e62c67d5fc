#include "client/context.h"

#include <cstdlib>

#include "client/local/paths.h"
#include "client/local/state.h"

namespace qwen3::client {

Client& Context::client() {
  if (!client_)
    client_ = std::make_unique<Client>(ClientOptions{.address = address.empty() ? default_address() : address});
  return *client_;
}

std::string default_address() {
  if (const char* address = std::getenv("QWEN3_ADDRESS"); address != nullptr && *address != '\0') return address;
  const auto state = local::load_state(local::current_dir());
  if (state && local::is_alive(state->supervisor) && !state->address.empty()) return state->address;
  return "127.0.0.1:7400";
}

}  // namespace qwen3::client
