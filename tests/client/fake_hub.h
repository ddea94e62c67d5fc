// A Hugging Face-compatible endpoint in this process, on a free port of loopback: one repository, and faults on
// request.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace qwen3::client::testing {

std::string sha256_hex(const std::string& bytes);
std::string git_blob_sha1_hex(const std::string& bytes);

class FakeHub {
 public:
  FakeHub();
  ~FakeHub();

  std::string url() const;

  struct File {
    std::string content;
    bool large = false;                  // in large-file storage: sha256 and linked headers instead of a blob id
    std::string told_hash;               // instead of the right one
    std::optional<int64_t> told_size;    // instead of the right one
    std::string etag = "\"content-1\"";  // of the server that sends the bytes
    bool ignores_ranges = false;         // as a plain proxy does
    bool ignores_conditions = false;     // sends a part although If-Range names another entity tag
  };
  // What happens to one request for a file instead of a plain answer.
  struct Fault {
    int status = 0;          // answer with this status; 0: not
    int retry_after = 0;     // with this many seconds
    int64_t cut_after = -1;  // close the connection after so many bytes of the body
    bool stall = false;      // send nothing until the server ends
  };
  struct Request {
    std::string path;
    std::map<std::string, std::string> headers;  // names in lower case
    std::string header(const std::string& name) const;
  };

  // Guarded by mu_ while a request is served; a test sets them between downloads.
  std::string repository = "Qwen/Qwen3-0.6B";
  std::string revision = "main";
  std::string commit = "0123456789abcdef0123456789abcdef01234567";
  std::map<std::string, File> files;
  std::map<std::string, std::vector<Fault>> faults;  // by file, "" for the listing; each request takes the first one
  std::string token;                                 // required when not empty
  std::string storage;  // URL of another FakeHub that sends the bytes of large files; empty: this one does
  bool tells_hashes = true;
  std::string listing;  // instead of the right one

  std::vector<Request> requests() const;
  std::vector<Request> requests_for(const std::string& file) const;

 private:
  class Handler;
  struct Server;

  mutable std::mutex mu_;
  std::vector<Request> requests_;
  bool ending_ = false;
  Server* server_;
};

}  // namespace qwen3::client::testing
