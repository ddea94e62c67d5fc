#include "tests/client/fake_hub.h"

#include <CivetServer.h>
#include <openssl/evp.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <shared_mutex>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace qwen3::client::testing {
namespace {

std::string digest(const std::string& bytes, const EVP_MD* kind) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_Digest(bytes.data(), bytes.size(), out, &length, kind, nullptr);
  return absl::BytesToHexString({reinterpret_cast<const char*>(out), length});
}

}  // namespace

std::string sha256_hex(const std::string& bytes) { return digest(bytes, EVP_sha256()); }
std::string git_blob_sha1_hex(const std::string& bytes) {
  return digest("blob " + std::to_string(bytes.size()) + std::string(1, '\0') + bytes, EVP_sha1());
}

std::string FakeHub::Request::header(const std::string& name) const {
  const auto it = headers.find(name);
  return it == headers.end() ? "" : it->second;
}

// Answers one request.
class FakeHub::Handler {
 public:
  explicit Handler(FakeHub& hub) : hub_(hub) {}

  bool answer(mg_connection* connection) {
    const mg_request_info& info = *mg_get_request_info(connection);
    Request request{.path = info.local_uri};
    for (int i = 0; i < info.num_headers; ++i) {
      request.headers[absl::AsciiStrToLower(info.http_headers[i].name)] = info.http_headers[i].value;
    }
    std::unique_lock lock(hub_.mu_);
    hub_.requests_.push_back(request);
    const std::string resolve = "/" + hub_.repository + "/resolve/";
    const std::string stored = "/storage/";
    std::string file;
    bool known = request.path == "/api/models/" + hub_.repository + "/revision/" + hub_.revision;
    const bool listing = known;
    bool redirects = false;
    if (absl::StartsWith(request.path, resolve)) {
      const std::string rest = request.path.substr(resolve.size());
      const size_t slash = rest.find('/');
      const std::string at = rest.substr(0, slash);
      file = slash == std::string::npos ? "" : rest.substr(slash + 1);
      known = (at == hub_.commit || at == hub_.revision) && hub_.files.count(file) > 0;
      redirects = known && hub_.files[file].large && !hub_.storage.empty();
    } else if (absl::StartsWith(request.path, stored)) {
      file = request.path.substr(stored.size());
      known = hub_.files.count(file) > 0;
    }
    const bool asks_for_token = !absl::StartsWith(request.path, stored) && !hub_.token.empty();
    if (asks_for_token && request.header("authorization") != "Bearer " + hub_.token) {
      return plain(connection, request.header("authorization").empty() ? 401 : 403,
                   "X-Error-Message: Invalid username or password.\r\n", "");
    }
    if (!known) return plain(connection, 404, "X-Error-Code: RepoNotFound\r\n", "");
    Fault fault;
    if (auto& pending = hub_.faults[file]; !pending.empty() && !redirects) {
      fault = pending.front();
      pending.erase(pending.begin());
    }
    if (fault.stall) {
      while (!hub_.ending_) {
        lock.unlock();
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        lock.lock();
      }
      return true;
    }
    if (fault.status != 0) {
      return plain(connection, fault.status,
                   fault.retry_after > 0 ? absl::StrCat("Retry-After: ", fault.retry_after, "\r\n") : "", "try later");
    }
    if (listing) return plain(connection, 200, "", hub_.listing.empty() ? right_listing() : hub_.listing);
    const File content = hub_.files[file];
    std::string headers = absl::StrCat("X-Repo-Commit: ", hub_.commit, "\r\n");
    if (content.large) {
      absl::StrAppend(&headers, "X-Linked-Size: ", content.content.size(), "\r\n");
      if (hub_.tells_hashes) {
        absl::StrAppend(&headers, "X-Linked-Etag: \"", sha256_hex(content.content), "\"\r\n");
      }
    }
    if (redirects) {
      return plain(connection, 302, absl::StrCat(headers, "Location: ", hub_.storage, "/storage/", file, "\r\n"), "");
    }
    lock.unlock();
    return send(connection, request, content, fault, headers);
  }

 private:
  static bool plain(mg_connection* connection, int status, const std::string& headers, const std::string& body) {
    const std::string answer = absl::StrCat("HTTP/1.1 ", status, " Said\r\n", headers, "Content-Length: ", body.size(),
                                            "\r\nConnection: close\r\n\r\n", body);
    mg_write(connection, answer.data(), answer.size());
    return true;
  }

  static bool send(mg_connection* connection, const Request& request, const File& file, const Fault& fault,
                   std::string headers) {
    const std::string range = request.header("range");
    const std::string condition = request.header("if-range");
    size_t begin = 0;
    int status = 200;
    const bool same = condition.empty() || condition == file.etag || file.ignores_conditions;
    if (absl::StartsWith(range, "bytes=") && same && !file.ignores_ranges) {
      begin = std::stoull(range.substr(6));
      if (begin >= file.content.size()) return plain(connection, 416, "", "");
      status = 206;
      absl::StrAppend(&headers, "Content-Range: bytes ", begin, "-", file.content.size() - 1, "/", file.content.size(),
                      "\r\n");
    }
    if (!file.etag.empty()) absl::StrAppend(&headers, "ETag: ", file.etag, "\r\n");
    const std::string body = file.content.substr(begin);
    const std::string head = absl::StrCat("HTTP/1.1 ", status, " Said\r\n", headers, "Content-Length: ", body.size(),
                                          "\r\nConnection: close\r\n\r\n");
    mg_write(connection, head.data(), head.size());
    const size_t bytes =
        fault.cut_after < 0 ? body.size() : std::min(body.size(), static_cast<size_t>(fault.cut_after));
    mg_write(connection, body.data(), bytes);
    return true;
  }

  // As GET /api/models/REPOSITORY/revision/REVISION?blobs=true answers.
  std::string right_listing() const {
    nlohmann::json siblings = nlohmann::json::array();
    for (const auto& [name, file] : hub_.files) {
      nlohmann::json sibling = {{"rfilename", name}};
      const auto size = file.told_size.value_or(static_cast<int64_t>(file.content.size()));
      if (hub_.tells_hashes) {
        sibling["size"] = size;
        sibling["blobId"] = file.told_hash.empty() || file.large ? git_blob_sha1_hex(file.content) : file.told_hash;
        if (file.large) {
          sibling["lfs"] = {{"sha256", file.told_hash.empty() ? sha256_hex(file.content) : file.told_hash},
                            {"size", size},
                            {"pointerSize", 134}};
        }
      }
      siblings.push_back(sibling);
    }
    return nlohmann::json{{"id", hub_.repository}, {"sha", hub_.commit}, {"siblings", siblings}}.dump();
  }

  FakeHub& hub_;
};

struct FakeHub::Server : CivetHandler {
  Server() : civet({"listening_ports", "127.0.0.1:0", "num_threads", "4", "request_timeout_ms", "60000"}) {
    civet.addHandler("/", *this);
  }
  bool handleGet(CivetServer*, mg_connection* connection) override {
    const std::shared_lock lock(serving);
    return hub != nullptr && Handler(*hub).answer(connection);
  }

  // Those that no hub uses.
  static std::vector<Server*>& idle() {
    static auto* const servers = new std::vector<Server*>;
    return *servers;
  }

  std::shared_mutex serving;  // shared while a request is answered
  FakeHub* hub = nullptr;
  CivetServer civet;
};

FakeHub::FakeHub() {
  if (Server::idle().empty()) Server::idle().push_back(new Server);
  server_ = Server::idle().back();
  Server::idle().pop_back();
  const std::unique_lock lock(server_->serving);
  server_->hub = this;
}

FakeHub::~FakeHub() {
  {
    const std::scoped_lock lock(mu_);
    ending_ = true;
  }
  const std::unique_lock lock(server_->serving);
  server_->hub = nullptr;
  Server::idle().push_back(server_);
}

std::string FakeHub::url() const {
  return absl::StrCat("http://127.0.0.1:", server_->civet.getListeningPorts().front());
}

std::vector<FakeHub::Request> FakeHub::requests() const {
  std::scoped_lock lock(mu_);
  return requests_;
}

std::vector<FakeHub::Request> FakeHub::requests_for(const std::string& file) const {
  std::vector<Request> found;
  for (const Request& request : requests()) {
    if (absl::EndsWith(request.path, "/" + file)) found.push_back(request);
  }
  return found;
}

}  // namespace qwen3::client::testing
