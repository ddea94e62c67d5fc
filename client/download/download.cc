#include "client/download/download.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/format/text.h"

namespace qwen3::client::download {
namespace {

namespace fs = std::filesystem;

constexpr size_t kListingLimit = 32 << 20;  // a listing of a hundred thousand files
constexpr int64_t kIndexLimit = 64 << 20;

class TextSink : public Sink {
 public:
  absl::Status begin(const Reply&) override { return absl::OkStatus(); }
  absl::Status write(std::string_view bytes) override {
    if (text_.size() + bytes.size() > kListingLimit) {
      return absl::InvalidArgumentError(absl::StrCat("the listing has more than ", bytes_text(kListingLimit)));
    }
    text_.append(bytes);
    return absl::OkStatus();
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

class Downloader {
 public:
  Downloader(Http& http, const Wish& wish, Meter& meter, const std::function<void(absl::Duration)>& sleep)
      : http_(http), wish_(wish), meter_(meter), sleep_(sleep) {}

  absl::StatusOr<Downloaded> run() {
    const absl::StatusOr<Listing> listing = list();
    if (!listing.ok()) return listing.status();
    const auto selection = select(*listing, wish_.assets);
    if (!selection.ok()) return about_repository(selection.status());
    std::error_code error;
    fs::create_directories(wish_.folder, error);
    if (error) return absl::FailedPreconditionError(absl::StrCat(wish_.folder, ": ", error.message()));

    result_.commit = listing->commit;
    if (const absl::Status done = bring(selection->files); !done.ok()) return done;
    if (selection->has_index) {
      const auto shards = select_shards_of_index(*listing);
      if (!shards.ok()) return about_repository(shards.status());
      if (const absl::Status done = bring(*shards); !done.ok()) return done;
    }
    return std::move(result_);
  }

 private:
  absl::Status about_repository(const absl::Status& status) const {
    return absl::Status(status.code(), absl::StrCat(wish_.repository.endpoint, "/", wish_.repository.id, ": ",
                                                    std::string(status.message())));
  }

  absl::StatusOr<Listing> list() {
    for (int failures = 1;; ++failures) {
      TextSink answer;
      const absl::Status status = http_.get(listing_url(wish_.repository), {"Accept: application/json"}, answer);
      if (status.ok()) {
        auto listing = parse_listing(answer.text());
        return listing.ok() ? listing : about_repository(listing.status());
      }
      if (!absl::IsUnavailable(status) || failures == kTries) return status;
      wait(status, failures);
    }
  }

  void wait(const absl::Status& status, int failures) {
    const absl::Duration pause = std::max(backoff(failures), http_.retry_after());
    meter_.note(absl::StrCat(std::string(status.message()), "; trying again in ", absl::FormatDuration(pause)));
    sleep_(pause);
  }

  absl::StatusOr<std::vector<RemoteFile>> select_shards_of_index(const Listing& listing) const {
    const std::string path = absl::StrCat(wish_.folder, "/", kIndexFile);
    std::error_code error;
    if (static_cast<int64_t>(fs::file_size(path, error)) > kIndexLimit || error) {
      return absl::InvalidArgumentError(absl::StrCat(kIndexFile, " has more than ", bytes_text(kIndexLimit)));
    }
    std::ifstream file(path, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    return select_shards(listing, text);
  }

  absl::Status bring(const std::vector<RemoteFile>& files) {
    std::vector<RemoteFile> missing;
    for (const RemoteFile& file : files) {
      meter_.start(absl::StrCat("checking ", file.name), done_, done_ + file.size.value_or(0));
      const auto present = is_present(wish_.folder, file);
      if (!present.ok()) return present.status();
      if (*present) {
        result_.files.push_back({.name = file.name, .bytes = *file.size, .checked = identity_of(file).kind});
      } else {
        missing.push_back(file);
      }
    }
    if (const absl::Status room = require_room(missing); !room.ok()) return room;
    int64_t total = done_;
    for (const RemoteFile& file : missing) total += file.size.value_or(0);
    for (const RemoteFile& file : missing) {
      meter_.start(file.name, done_, total);
      const FetchHooks hooks = {.progress = [this](int64_t bytes) { meter_.advance(done_ + bytes); },
                                .note = [this](const std::string& line) { meter_.note(line); },
                                .sleep = sleep_};
      const std::string url = file_url(wish_.repository, result_.commit, file.name);
      const auto fetched = fetch(http_, url, file, wish_.folder, hooks);
      if (!fetched.ok()) return fetched.status();
      if (fetched->checked == HashKind::kNone) {
        meter_.note(absl::StrCat(file.name, ": the server tells no hash; only its size was checked"));
      }
      done_ += fetched->size;
      result_.files.push_back(
          {.name = file.name, .bytes = fetched->size, .received = fetched->received, .checked = fetched->checked});
    }
    return absl::OkStatus();
  }

  // Before the first byte rather than after the first hundred gigabytes.
  absl::Status require_room(const std::vector<RemoteFile>& files) const {
    std::error_code error;
    const fs::space_info space = fs::space(wish_.folder, error);
    if (error) return absl::OkStatus();  // the file system does not tell; writing will
    double needed = 0;                   // sizes are what a server wrote: their sum may not fit an integer
    for (const RemoteFile& file : files) {
      const auto begun = fs::file_size(absl::StrCat(wish_.folder, "/", file.name, ".part"), error);
      needed += static_cast<double>(file.size.value_or(0)) - (error ? 0.0 : static_cast<double>(begun));
    }
    const auto available = static_cast<double>(space.available);
    if (needed <= available) return absl::OkStatus();
    const auto text = [](double bytes) { return bytes_text(static_cast<int64_t>(std::min(bytes, 9e18))); };
    return absl::ResourceExhaustedError(absl::StrCat(wish_.folder, ": the files need ", text(needed), ", but ",
                                                     text(available), " are free: ", text(needed - available),
                                                     " are missing; make room or choose another folder with --to"));
  }

  Http& http_;
  const Wish& wish_;
  Meter& meter_;
  const std::function<void(absl::Duration)>& sleep_;
  Downloaded result_;
  int64_t done_ = 0;  // bytes of the files that were fetched
};

}  // namespace

absl::StatusOr<Downloaded> download(Http& http, const Wish& wish, Meter& meter,
                                    const std::function<void(absl::Duration)>& sleep) {
  return Downloader(http, wish, meter, sleep).run();
}

}  // namespace qwen3::client::download
