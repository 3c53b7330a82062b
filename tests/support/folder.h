// A folder of a test's own.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "tests/support/doctest.h"

namespace evlua::test {

/// Goes with all that is in it.
class Folder {
 public:
  Folder() { REQUIRE(::mkdtemp(name_) != nullptr); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code error;
    std::filesystem::remove_all(name_, error);
    CHECK(!error);
  }

  std::string path() const { return name_; }
  std::string path(const char* file) const { return path() + "/" + file; }

 private:
  char name_[32] = "/tmp/evlua-test-XXXXXX";
};

}  // namespace evlua::test
