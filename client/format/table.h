// Rows of text in aligned columns, two spaces apart, without trailing spaces.
#pragma once
#include <initializer_list>
#include <iosfwd>
#include <string>
#include <vector>

namespace qwen3::client {

class Table {
 public:
  explicit Table(std::vector<std::string> header);
  void add(std::vector<std::string> row);  // as many cells as the header has
  void print(std::ostream& out) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace qwen3::client
