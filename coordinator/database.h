// One SQLite connection and its prepared statements; every failure is a Status that names the statement.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct sqlite3;
struct sqlite3_stmt;

namespace qwen3::coordinator {

// A running statement. Bind from 1, step, read columns from 0; it is reset when this goes out of scope.
class Statement {
 public:
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(int index, int64_t value);
  Statement& bind(int index, std::string_view value);       // text
  Statement& bind_blob(int index, std::string_view bytes);  // copied
  // True: a row is there. False: done.
  absl::StatusOr<bool> step();
  // For statements without rows.
  absl::Status run();
  int64_t integer(int column) const;
  std::string bytes(int column) const;  // text or blob
  bool is_null(int column) const;

 private:
  sqlite3_stmt* statement_;
};

class Database {
 public:
  enum class Mode { kWriter, kReader };
  // WAL, synchronous=FULL, foreign keys off (rows are messages), busy timeout 5 s.
  static absl::StatusOr<std::unique_ptr<Database>> open(const std::string& path, Mode mode);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  absl::Status execute(const std::string& sql);  // one or more statements without parameters
  // Prepared once per connection. REQUIRES: valid SQL, and no live Statement of the same text.
  Statement prepare(std::string_view sql);

 private:
  explicit Database(sqlite3* connection) : connection_(connection) {}
  sqlite3* connection_;
  std::map<std::string, sqlite3_stmt*, std::less<>> statements_;
};

}  // namespace qwen3::coordinator
