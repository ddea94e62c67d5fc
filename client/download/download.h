// A repository's tokenizer, configuration and weights, brought into a folder.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/download/fetch.h"
#include "client/download/http.h"
#include "client/download/meter.h"
#include "client/download/repository.h"

namespace qwen3::client::download {

struct Wish {
  Repository repository;
  Assets assets;
  std::string folder;  // made when it is not there
};

struct DownloadedFile {
  std::string name;
  int64_t bytes = 0;
  int64_t received = 0;  // 0: it was there already
  HashKind checked = HashKind::kNone;
};

struct Downloaded {
  std::string commit;  // empty: the endpoint does not tell
  std::vector<DownloadedFile> files;
};

// Every file of the result is whole, right and at its place; on an error some may be, and what was begun waits in
// NAME.part for the same call again. Files that are there with the right hash are not asked for.
absl::StatusOr<Downloaded> download(Http& http, const Wish& wish, Meter& meter,
                                    const std::function<void(absl::Duration)>& sleep);

}  // namespace qwen3::client::download
