// The HTTP port: /metrics, /livez and /readyz. Read-only.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

class CivetServer;
class CivetHandler;

namespace qwen3::coordinator {

class HttpServer {
 public:
  struct Handlers {
    std::function<std::string()> metrics;  // text
    std::function<bool()> ready;           // the database can be written and the state thread answers
  };
  // `address` is HOST:PORT; port 0: any. UNAVAILABLE: it cannot be bound.
  static absl::StatusOr<std::unique_ptr<HttpServer>> start(const std::string& address, Handlers handlers);
  ~HttpServer();
  int port() const { return port_; }

 private:
  HttpServer() = default;
  std::vector<std::unique_ptr<CivetHandler>> routes_;  // outlive the server
  std::unique_ptr<CivetServer> server_;
  int port_ = 0;
};

}  // namespace qwen3::coordinator
