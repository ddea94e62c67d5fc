#include "client/download/download.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <ostream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/commands/commands.h"
#include "client/exit_code.h"
#include "client/format/text.h"
#include "client/interrupt.h"
#include "spec/config/data_root.h"

namespace qwen3::client {
namespace {

constexpr char kDefaultEndpoint[] = "https://huggingface.co";

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : std::string(absl::StripAsciiWhitespace(value));
}

// Where torchtitan's script puts it below its working folder, so that its hf_assets_path holds here too.
std::string default_folder(const std::string& repository) {
  return absl::StrCat(spec::config::default_data_root(), "/assets/hf/",
                      repository.substr(repository.find_last_of('/') + 1));
}

absl::StatusOr<std::string> token() {
  std::string value = environment("HF_TOKEN");
  const bool plain = std::all_of(value.begin(), value.end(), [](unsigned char c) { return c > 0x20 && c < 0x7f; });
  if (!plain)
    return absl::InvalidArgumentError("HF_TOKEN holds characters that no token has (blanks or control bytes)");
  return value;
}

void sleep_unless_stopped(absl::Duration duration, const std::stop_token& stop) {
  std::mutex mu;
  std::condition_variable_any wake;
  std::unique_lock lock(mu);
  wake.wait_for(lock, stop, absl::ToChronoNanoseconds(duration), [] { return false; });
}

void print(Context& context, const download::Wish& wish, const download::Downloaded& result) {
  int64_t bytes = 0, received = 0;
  for (const download::DownloadedFile& file : result.files) bytes += file.bytes, received += file.received;
  if (context.json()) {
    nlohmann::ordered_json files = nlohmann::ordered_json::array();
    for (const download::DownloadedFile& file : result.files) {
      files.push_back({{"name", file.name},
                       {"bytes", file.bytes},
                       {"received_bytes", file.received},
                       {"checked", file.checked == download::HashKind::kNone ? "size" : hash_name(file.checked)}});
    }
    context.out() << nlohmann::ordered_json{{"repository", wish.repository.id},
                                            {"revision", wish.repository.revision},
                                            {"commit", result.commit},
                                            {"folder", wish.folder},
                                            {"bytes", bytes},
                                            {"received_bytes", received},
                                            {"files", files}}
                  << '\n';
    return;
  }
  context.out() << wish.repository.id << (result.commit.empty() ? "" : " at " + result.commit.substr(0, 12)) << ": "
                << result.files.size() << " files, " << bytes_text(bytes) << " (" << bytes_text(received)
                << " received) in " << wish.folder << '\n';
}

}  // namespace

Result download_repository(Context& context, const DownloadOptions& options) {
  Interrupt interrupt;
  const std::string endpoint = environment("HF_ENDPOINT");
  const auto repository =
      download::make_repository(endpoint.empty() ? kDefaultEndpoint : endpoint, options.repository, options.revision);
  if (!repository.ok()) return repository.status();
  const auto assets = download::parse_assets(options.assets);
  if (!assets.ok()) return assets.status();
  const auto secret = token();
  if (!secret.ok()) return secret.status();
  const std::string folder = options.to.empty() ? default_folder(repository->id) : options.to;
  const download::Wish wish = {.repository = *repository,
                               .assets = *assets,
                               .folder = std::filesystem::absolute(folder).lexically_normal().string()};
  download::Http http({.endpoint = repository->endpoint,
                       .token = *secret,
                       .ca_file = environment("SSL_CERT_FILE"),
                       .stop = interrupt.token()});
  download::Meter meter(context.err(), context.console.err_is_terminal, absl::Now);
  const auto result = download::download(
      http, wish, meter, [&interrupt](absl::Duration pause) { sleep_unless_stopped(pause, interrupt.token()); });
  meter.finish();
  if (absl::IsCancelled(result.status())) {
    context.err() << "interrupted; repeat the command to go on from here\n";
    return kDetached;
  }
  if (!result.ok()) return result.status();
  print(context, wish, *result);
  return kSucceeded;
}

}  // namespace qwen3::client
