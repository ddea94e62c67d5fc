#include "client/download/http.h"

#include <curl/curl.h>

#include <mutex>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/format/text.h"
#include "spec/build_info/build_info.h"

namespace qwen3::client::download {
namespace {

constexpr int kRedirects = 8;
constexpr size_t kErrorBytes = 300;  // of an error's body, for the message
constexpr absl::Duration kLongestRetryAfter = absl::Minutes(2);

std::string part_of_url(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return "";
  std::string copy(text);
  curl_free(text);
  return copy;
}

// What a user can do about an answer.
std::string advice(long status, bool with_token) {
  switch (status) {
    case 401:
      return with_token ? "the server does not accept HF_TOKEN"
                        : "the repository does not exist, or it is private: set HF_TOKEN to a token that may read it";
    case 403:
      return with_token ? "HF_TOKEN may not read it: accept the model's conditions on its page, or use another token"
                        : "set HF_TOKEN to a token that may read it";
    case 404:
      return "there is no such repository, revision or file; check the names, --revision and HF_ENDPOINT";
    case 429:
      return with_token ? "the server asks for fewer requests"
                        : "the server asks for fewer requests; HF_TOKEN allows more";
    default:
      return "";
  }
}

absl::StatusCode code_of(long status) {
  switch (status) {
    case 401:
      return absl::StatusCode::kUnauthenticated;
    case 403:
      return absl::StatusCode::kPermissionDenied;
    case 404:
    case 410:
      return absl::StatusCode::kNotFound;
    case 416:
      return absl::StatusCode::kOutOfRange;
    case 408:
    case 429:
      return absl::StatusCode::kUnavailable;
    default:
      return status >= 500 ? absl::StatusCode::kUnavailable : absl::StatusCode::kFailedPrecondition;
  }
}

absl::Status error_of_reply(const Reply& reply, const std::string& body, bool with_token) {
  std::string said = reply.header("x-error-message");
  if (said.empty() && !absl::StrContains(body, "<")) said = body;  // not a page for people
  std::string message = absl::StrCat(reply.url, ": HTTP ", reply.status);
  if (!said.empty()) absl::StrAppend(&message, " (", printable(said), ")");
  if (const std::string hint = advice(reply.status, with_token); !hint.empty()) absl::StrAppend(&message, ": ", hint);
  return absl::Status(code_of(reply.status), message);
}

absl::Status error_of_curl(CURLcode code, const std::string& detail, const std::string& url) {
  const std::string message = absl::StrCat(url, ": ", detail.empty() ? curl_easy_strerror(code) : detail.c_str());
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      return absl::FailedPreconditionError(
          absl::StrCat(message, "; if the server is yours, name its authority's file in SSL_CERT_FILE"));
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return absl::InvalidArgumentError(message);
    case CURLE_OUT_OF_MEMORY:
    case CURLE_FAILED_INIT:
      return absl::InternalError(message);
    default:
      return absl::UnavailableError(message);
  }
}

}  // namespace

std::string Reply::header(const std::string& name) const {
  const auto it = headers.find(name);
  return it == headers.end() ? "" : it->second;
}

std::string origin_of(const std::string& text) {
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> url(curl_url(), curl_url_cleanup);
  if (curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) return "";
  const std::string scheme = part_of_url(url.get(), CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") return "";
  return absl::AsciiStrToLower(absl::StrCat(scheme, "://", part_of_url(url.get(), CURLUPART_HOST), ":",
                                            part_of_url(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT)));
}

// One hop: its callbacks, and what they collected.
class Http::Transfer {
 public:
  Transfer(CURL* curl, Sink& sink, const std::stop_token& stop) : curl_(curl), sink_(sink), stop_(stop) {}

  Reply reply;
  std::string error_body;
  absl::Status sink_status;

  // Tells the sink of a successful answer, once.
  absl::Status begin() {
    curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &reply.status);
    if (begun_ || !is_success()) return absl::OkStatus();
    begun_ = true;
    if (reply.linked_etag.empty()) reply.linked_etag = reply.header("x-linked-etag");
    if (reply.linked_size.empty()) reply.linked_size = reply.header("x-linked-size");
    return sink_.begin(reply);
  }
  bool is_success() const { return reply.status == 200 || reply.status == 206; }

  static size_t on_header(char* data, size_t size, size_t count, void* self) {
    Reply& reply = static_cast<Transfer*>(self)->reply;
    const std::string_view line(data, size * count);
    if (line.compare(0, 5, "HTTP/") == 0) reply.headers.clear();  // of the final answer, not of "100 Continue"
    if (const size_t colon = line.find(':'); colon != std::string_view::npos) {
      const std::string name(line.substr(0, colon)), value(line.substr(colon + 1));
      reply.headers[absl::AsciiStrToLower(name)] = std::string(absl::StripAsciiWhitespace(value));
    }
    return size * count;
  }

  static size_t on_body(char* data, size_t size, size_t count, void* pointer) {
    auto& self = *static_cast<Transfer*>(pointer);
    const std::string_view bytes(data, size * count);
    self.sink_status = self.begin();
    if (!self.sink_status.ok()) return 0;
    if (self.is_success()) {
      self.sink_status = self.sink_.write(bytes);
    } else if (self.error_body.size() < kErrorBytes) {
      self.error_body.append(bytes.substr(0, kErrorBytes - self.error_body.size()));
    }
    return self.sink_status.ok() ? bytes.size() : 0;
  }

  static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    return static_cast<Transfer*>(self)->stop_.stop_requested() ? 1 : 0;
  }

 private:
  CURL* curl_;
  Sink& sink_;
  const std::stop_token& stop_;
  bool begun_ = false;
};

Http::Http(HttpOptions options) : options_(std::move(options)), token_origin_(origin_of(options_.endpoint)) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  curl_ = curl_easy_init();
}

Http::~Http() { curl_easy_cleanup(curl_); }

absl::Status Http::get(const std::string& start, const std::vector<std::string>& headers, Sink& sink) {
  if (curl_ == nullptr) return absl::InternalError("libcurl could not be started");
  retry_after_ = absl::ZeroDuration();
  std::string url = start;
  Reply linked;  // what earlier hops said about the content
  for (int hop = 0; hop <= kRedirects; ++hop) {
    const std::string origin = origin_of(url);
    if (origin.empty()) return absl::InvalidArgumentError(absl::StrCat(url, ": only http and https are followed"));
    const bool with_token = !options_.token.empty() && origin == token_origin_;

    Transfer transfer(curl_, sink, options_.stop);
    transfer.reply = {.url = url, .linked_etag = linked.linked_etag, .linked_size = linked.linked_size};
    curl_slist* list = nullptr;
    for (const std::string& header : headers) list = curl_slist_append(list, header.c_str());
    if (with_token) list = curl_slist_append(list, absl::StrCat("Authorization: Bearer ", options_.token).c_str());
    const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> owner(list, curl_slist_free_all);
    char detail[CURL_ERROR_SIZE] = "";
    const std::string agent = absl::StrCat("qwen3ctl/", std::string(qwen3::version()));

    curl_easy_reset(curl_);  // keeps the connection
    const auto set = [this](CURLoption option, auto value) { curl_easy_setopt(curl_, option, value); };
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_HTTPHEADER, list);
    set(CURLOPT_USERAGENT, agent.c_str());
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(absl::ToInt64Milliseconds(options_.connect_limit)));
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(absl::ToInt64Seconds(options_.stall_limit)));
    set(CURLOPT_ERRORBUFFER, detail);
    set(CURLOPT_NOPROGRESS, 0L);
    set(CURLOPT_XFERINFOFUNCTION, &Transfer::on_progress);
    set(CURLOPT_XFERINFODATA, &transfer);
    set(CURLOPT_HEADERFUNCTION, &Transfer::on_header);
    set(CURLOPT_HEADERDATA, &transfer);
    set(CURLOPT_WRITEFUNCTION, &Transfer::on_body);
    set(CURLOPT_WRITEDATA, &transfer);
    set(CURLOPT_BUFFERSIZE, 512L << 10);
    if (!options_.ca_file.empty()) set(CURLOPT_CAINFO, options_.ca_file.c_str());
    const CURLcode code = curl_easy_perform(curl_);
    curl_easy_setopt(curl_, CURLOPT_ERRORBUFFER, nullptr);  // `detail` ends here

    if (options_.stop.stop_requested()) return absl::CancelledError(absl::StrCat(url, ": interrupted"));
    if (!transfer.sink_status.ok()) return transfer.sink_status;
    if (code != CURLE_OK) return error_of_curl(code, detail, url);
    if (const absl::Status begun = transfer.begin(); !begun.ok()) return begun;  // an empty body
    if (transfer.is_success()) return absl::OkStatus();

    const Reply& reply = transfer.reply;
    char* next = nullptr;
    curl_easy_getinfo(curl_, CURLINFO_REDIRECT_URL, &next);
    if (next == nullptr) {
      int seconds = 0;
      if (absl::SimpleAtoi(reply.header("retry-after"), &seconds) && seconds > 0) {
        retry_after_ = std::min(absl::Seconds(seconds), kLongestRetryAfter);
      }
      return error_of_reply(reply, transfer.error_body, with_token);
    }
    if (absl::StartsWith(origin, "https:") && !absl::StartsWith(origin_of(next), "https:")) {
      return absl::FailedPreconditionError(
          absl::StrCat(url, ": redirects to ", next, ", which is not encrypted; not followed"));
    }
    if (linked.linked_etag.empty()) linked.linked_etag = reply.header("x-linked-etag");
    if (linked.linked_size.empty()) linked.linked_size = reply.header("x-linked-size");
    url = next;
  }
  return absl::FailedPreconditionError(absl::StrCat(start, ": more than ", kRedirects, " redirects"));
}

}  // namespace qwen3::client::download
