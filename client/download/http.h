// One GET at a time over libcurl, with redirects followed by hand so that a token goes to its own server only.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace qwen3::client::download {

struct Reply {
  std::string url;  // of the last hop
  long status = 0;
  std::map<std::string, std::string> headers;  // of the last hop; names in lower case

  // What the endpoint says about content in large-file storage, also when another server sends it; empty: nothing.
  std::string linked_etag;
  std::string linked_size;

  std::string header(const std::string& name) const;  // empty: absent
};

// Takes the body of a successful answer (200 or 206). An error ends the transfer and is what get() returns.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual absl::Status begin(const Reply& reply) = 0;  // once, before the first byte; also of an empty body
  virtual absl::Status write(std::string_view bytes) = 0;
};

struct HttpOptions {
  std::string endpoint;  // the token goes to requests of this scheme, host and port, and to no other
  std::string token;     // empty: none
  std::string ca_file;   // empty: libcurl's own
  absl::Duration connect_limit = absl::Seconds(20);
  absl::Duration stall_limit = absl::Seconds(30);  // so long without a byte: the transfer is given up
  std::stop_token stop;
};

class Http {
 public:
  explicit Http(HttpOptions options);
  ~Http();
  Http(const Http&) = delete;

  // UNAVAILABLE: another try may help (no connection, cut off, stalled, 408, 429, 5xx). Anything else is final:
  // UNAUTHENTICATED 401, PERMISSION_DENIED 403, NOT_FOUND 404, OUT_OF_RANGE 416, CANCELLED by the stop token.
  // The message holds the URL, what came back and what may be done about it.
  absl::Status get(const std::string& url, const std::vector<std::string>& headers, Sink& sink);

  // What the last answer asked for in Retry-After; zero: nothing.
  absl::Duration retry_after() const { return retry_after_; }

 private:
  class Transfer;
  const HttpOptions options_;
  const std::string token_origin_;
  void* curl_;  // CURL*
  absl::Duration retry_after_;
};

// "scheme://host:port" in lower case, the port always written; empty: no URL of http or https.
std::string origin_of(const std::string& url);

}  // namespace qwen3::client::download
