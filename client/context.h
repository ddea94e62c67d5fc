// What every command gets: where to read and write, how to print, and a client made at its first use.
#pragma once
#include <iosfwd>
#include <memory>
#include <string>

#include "client/client.h"

namespace qwen3::client {

enum class Output { kTable, kJson };

struct Console {
  std::istream& in;
  std::ostream& out;  // results
  std::ostream& err;  // progress, warnings, errors
  bool err_is_terminal = false;
};

struct Context {
  explicit Context(const Console& streams) : console(streams) {}

  Console console;
  Output output = Output::kTable;
  std::string address;  // of --address; empty: see default_address()

  bool json() const { return output == Output::kJson; }
  std::ostream& out() const { return console.out; }
  std::ostream& err() const { return console.err; }
  Client& client();

 private:
  std::unique_ptr<Client> client_;
};

// $QWEN3_ADDRESS, else the running local service (qwen3ctl local up), else 127.0.0.1:7400.
std::string default_address();

}  // namespace qwen3::client
