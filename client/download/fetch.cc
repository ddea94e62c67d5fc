#include "client/download/fetch.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/format/text.h"

namespace qwen3::client::download {
namespace {

std::string without_quotes(const std::string& etag) {
  std::string_view text(etag);
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
  return std::string(text);
}

bool is_weak(const std::string& etag) { return absl::StartsWith(etag, "W/"); }

std::string hash_in(const std::string& etag, size_t digits) {
  const std::string text = absl::AsciiStrToLower(without_quotes(etag));
  const bool hex = text.find_first_not_of("0123456789abcdef") == std::string::npos;
  return hex && text.size() == digits ? text : "";
}

std::optional<int64_t> number(const std::string& text) {
  int64_t value = 0;
  return absl::SimpleAtoi(text, &value) && value >= 0 ? std::optional(value) : std::nullopt;
}

// "bytes 100-199/200" -> 100 and 200.
struct ContentRange {
  int64_t begin, total;
};
std::optional<ContentRange> content_range(const std::string& header) {
  std::string_view text(header);
  if (text.compare(0, 6, "bytes ") != 0) return std::nullopt;
  const std::vector<std::string> halves = absl::StrSplit(std::string(text.substr(6)), '/');
  if (halves.size() != 2) return std::nullopt;
  const auto begin = number(halves[0].substr(0, halves[0].find('-')));
  const auto total = number(halves[1]);
  if (!begin || !total) return std::nullopt;
  return ContentRange{*begin, *total};
}

// Writes an answer's body to the partial file, from its end or from the beginning, as the answer says.
class PartSink : public Sink {
 public:
  PartSink(PartFile& part, const RemoteFile& expected, const FetchHooks& hooks)
      : part_(part), expected_(expected), hooks_(hooks) {}

  absl::Status begin(const Reply& reply) override {
    const absl::StatusOr<Identity> identity = identity_in(reply);
    if (!identity.ok()) return identity.status();
    if (reply.status == 206 && part_.bytes() == 0) return absl::AbortedError("the server sends a part, unasked");
    if (reply.status == 206) {
      const std::string header = reply.header("content-range");
      const auto range = content_range(header);
      const Identity& known = *part_.identity();
      if (!range || range->begin != part_.bytes() || range->total != known.size) {
        return absl::AbortedError(absl::StrCat("asked for the bytes from ", part_.bytes(), " of ", known.size,
                                               ", the server sends \"", printable(header), "\""));
      }
      if (!known.etag.empty() && !identity->etag.empty() && known.etag != identity->etag) {
        return absl::AbortedError("the file has changed on the server");
      }
      return absl::OkStatus();
    }
    if (part_.bytes() > 0) hooks_.note(absl::StrCat(expected_.name, ": starts over, the server sends all of it"));
    return part_.restart(*identity);
  }

  absl::Status write(std::string_view bytes) override {
    if (part_.bytes() + static_cast<int64_t>(bytes.size()) > part_.identity()->size) {
      return absl::AbortedError(
          absl::StrCat("the server sends more than the ", part_.identity()->size, " bytes it announced"));
    }
    received_ += static_cast<int64_t>(bytes.size());
    const absl::Status written = part_.append(bytes);
    hooks_.progress(part_.bytes());
    return written;
  }

  int64_t received() const { return received_; }

 private:
  // What the answer and the listing together say of the content. Where they differ the listing is not this content's.
  absl::StatusOr<Identity> identity_in(const Reply& reply) const {
    RemoteFile told = expected_;
    const auto range = content_range(reply.header("content-range"));
    const std::optional<int64_t> sizes[] = {number(reply.linked_size),
                                            reply.status == 206 ? (range ? std::optional(range->total) : std::nullopt)
                                                                : number(reply.header("content-length"))};
    for (const std::optional<int64_t>& size : sizes) {
      if (size && told.size && *size != *told.size) {
        return absl::DataLossError(absl::StrCat(expected_.name, " has ", *told.size, " bytes in the listing, but ",
                                                reply.url, " has ", *size));
      }
      if (size) told.size = size;
    }
    if (!told.size) {
      return absl::DataLossError(
          absl::StrCat(expected_.name, ": neither the listing nor ", reply.url, " tells its size"));
    }
    const std::string etag = reply.header("etag");
    if (told.sha256.empty() && told.git_sha1.empty()) {
      told.sha256 = hash_in(reply.linked_etag, 64);
      if (told.sha256.empty() && reply.linked_etag.empty()) told.git_sha1 = hash_in(etag, 40);
    }
    Identity identity = identity_of(told);
    if (!is_weak(etag)) identity.etag = etag;
    return identity;
  }

  PartFile& part_;
  const RemoteFile& expected_;
  const FetchHooks& hooks_;
  int64_t received_ = 0;
};

// What continues the partial file; nothing: from the beginning.
std::vector<std::string> resume_headers(const PartFile& part) {
  if (part.bytes() == 0) return {};
  // With neither an entity tag nor a hash nothing would tell that the bytes of two contents were joined.
  const Identity& known = *part.identity();
  if (known.etag.empty() && known.kind == HashKind::kNone) return {};
  std::vector<std::string> headers = {absl::StrCat("Range: bytes=", part.bytes(), "-")};
  if (!known.etag.empty()) headers.push_back(absl::StrCat("If-Range: ", known.etag));
  return headers;
}

}  // namespace

absl::Duration backoff(int failures) {
  return std::min(absl::Milliseconds(500) * (1 << std::min(failures - 1, 10)), absl::Seconds(15));
}

absl::StatusOr<Fetched> fetch(Http& http, const std::string& url, const RemoteFile& expected, const std::string& folder,
                              const FetchHooks& hooks) {
  auto opened = PartFile::open(folder, expected);
  if (!opened.ok()) return opened.status();
  PartFile& part = **opened;
  Fetched fetched;
  bool mixed = part.bytes() > 0;  // holds bytes of an earlier run
  if (mixed) hooks.note(absl::StrCat(expected.name, ": goes on after ", bytes_text(part.bytes())));
  for (int failures = 0, restarts = 0;;) {
    hooks.progress(part.bytes());
    absl::Status status;
    if (!part.is_complete()) {
      PartSink sink(part, expected, hooks);
      status = http.get(url, resume_headers(part), sink);
      fetched.received += sink.received();
      if (sink.received() > 0) failures = 0;
      if (status.ok() && !part.is_complete()) status = absl::UnavailableError(absl::StrCat(url, ": ended too early"));
    }
    if (status.ok()) {
      fetched.size = part.bytes();
      fetched.checked = part.identity()->kind;
      status = part.commit();
      if (status.ok()) return fetched;
    }
    // The bytes of an earlier try do not fit those of this one: once more, from the beginning.
    const bool does_not_fit =
        absl::IsAborted(status) || absl::IsOutOfRange(status) || (absl::IsDataLoss(status) && mixed);
    if (does_not_fit && restarts++ == 0) {
      hooks.note(absl::StrCat(expected.name, ": starts over: ", std::string(status.message())));
      mixed = false;
      part.drop();
      continue;
    }
    if (absl::IsAborted(status)) return absl::DataLossError(absl::StrCat(url, ": ", std::string(status.message())));
    if (!absl::IsUnavailable(status) || ++failures == kTries) return status;
    mixed = mixed || part.bytes() > 0;
    const absl::Duration wait = std::max(backoff(failures), http.retry_after());
    hooks.note(absl::StrCat(std::string(status.message()), "; trying again in ", absl::FormatDuration(wait)));
    hooks.sleep(wait);
  }
}

}  // namespace qwen3::client::download
