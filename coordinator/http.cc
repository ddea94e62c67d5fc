#include "coordinator/http.h"

#include <CivetServer.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace qwen3::coordinator {
namespace {

struct Answer {
  int status = 200;
  std::string body;
};

class Route : public CivetHandler {
 public:
  explicit Route(std::function<Answer()> answer) : answer_(std::move(answer)) {}

  bool handleGet(CivetServer*, mg_connection* connection) override {
    const Answer answer = answer_();
    mg_printf(connection,
              "HTTP/1.1 %d %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: %zu\r\n"
              "Connection: close\r\n\r\n",
              answer.status, answer.status == 200 ? "OK" : "Service Unavailable", answer.body.size());
    mg_write(connection, answer.body.data(), answer.body.size());
    return true;
  }

 private:
  std::function<Answer()> answer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::start(const std::string& address, Handlers handlers) {
  std::unique_ptr<HttpServer> http(new HttpServer());
  try {
    http->server_ = std::make_unique<CivetServer>(std::vector<std::string>{"listening_ports", address, "num_threads",
                                                                           "2", "request_timeout_ms", "10000",
                                                                           "enable_directory_listing", "no"});
  } catch (const CivetException& error) {
    return absl::UnavailableError(absl::StrCat("cannot listen for HTTP on ", address, ": ", error.what()));
  }
  http->port_ = http->server_->getListeningPorts().front();
  const auto add = [&http](const char* path, std::function<Answer()> answer) {
    http->routes_.push_back(std::make_unique<Route>(std::move(answer)));
    http->server_->addHandler(path, http->routes_.back().get());
  };
  add("/metrics", [metrics = handlers.metrics] { return Answer{200, metrics()}; });
  add("/livez", [] { return Answer{200, "ok\n"}; });
  add("/readyz", [ready = handlers.ready] { return ready() ? Answer{200, "ok\n"} : Answer{503, "not ready\n"}; });
  return http;
}

// civetweb looks at its stop flag only every 2 s, or when somebody connects: so somebody connects.
HttpServer::~HttpServer() {
  if (server_ == nullptr) return;
  std::atomic<bool> closed = false;
  std::thread closer([this, &closed] {
    server_->close();
    closed = true;
  });
  while (!closed) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port_));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
      close(fd);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  closer.join();
}

}  // namespace qwen3::coordinator
