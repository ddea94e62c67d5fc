#include "coordinator/database.h"

#include <sqlite3.h>

#include <stdexcept>

#include "absl/strings/str_cat.h"

namespace qwen3::coordinator {
namespace {

absl::Status error(sqlite3* connection, int code, const std::string& doing) {
  const std::string message = absl::StrCat("database: ", doing, ": ", sqlite3_errmsg(connection), " (", code, ")");
  if (code == SQLITE_FULL) return absl::ResourceExhaustedError(message);
  if ((code & 0xff) == SQLITE_CONSTRAINT) return absl::AlreadyExistsError(message);
  return absl::InternalError(message);
}

}  // namespace

Statement::~Statement() {
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

Statement& Statement::bind(int index, int64_t value) {
  sqlite3_bind_int64(statement_, index, value);
  return *this;
}

Statement& Statement::bind(int index, std::string_view value) {
  sqlite3_bind_text(statement_, index, value.data(), static_cast<int>(value.size()), SQLITE_TRANSIENT);
  return *this;
}

Statement& Statement::bind_blob(int index, std::string_view bytes) {
  sqlite3_bind_blob(statement_, index, bytes.data(), static_cast<int>(bytes.size()), SQLITE_TRANSIENT);
  return *this;
}

absl::StatusOr<bool> Statement::step() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return error(sqlite3_db_handle(statement_), code, sqlite3_sql(statement_));
}

absl::Status Statement::run() { return step().status(); }

int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_, column); }

std::string Statement::bytes(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  return {static_cast<const char*>(data), static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
}

bool Statement::is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

absl::StatusOr<std::unique_ptr<Database>> Database::open(const std::string& path, Mode mode) {
  sqlite3* connection = nullptr;
  const int flags = mode == Mode::kWriter ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
  const int code = sqlite3_open_v2(path.c_str(), &connection, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<Database> database(new Database(connection));  // closes also a connection that failed to open
  if (code != SQLITE_OK) return error(connection, code, absl::StrCat("open ", path));
  sqlite3_busy_timeout(connection, 5000);
  sqlite3_extended_result_codes(connection, 1);
  std::string pragmas = "PRAGMA trusted_schema=OFF;";
  if (mode == Mode::kWriter) pragmas += "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;";
  if (absl::Status status = database->execute(pragmas); !status.ok()) return status;
  return database;
}

Database::~Database() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(connection_);
}

absl::Status Database::execute(const std::string& sql) {
  const int code = sqlite3_exec(connection_, sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : error(connection_, code, sql);
}

Statement Database::prepare(std::string_view sql) {
  auto known = statements_.find(sql);
  if (known == statements_.end()) {
    sqlite3_stmt* statement = nullptr;
    const int code = sqlite3_prepare_v3(connection_, sql.data(), static_cast<int>(sql.size()),
                                        SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
    if (code != SQLITE_OK) {
      throw std::logic_error(std::string(error(connection_, code, std::string(sql)).message()));
    }
    known = statements_.emplace(sql, statement).first;
  }
  return Statement(known->second);
}

}  // namespace qwen3::coordinator
