// Goal: what is written is what is read, whatever size the system says it has, and what cannot be says why.
#include "core/whole_file.h"

#include <unistd.h>

#include <cerrno>
#include <initializer_list>
#include <string>

#include "tests/support/doctest.h"
#include "tests/support/folder.h"

namespace evlua {
namespace {

using test::Folder;

TEST_CASE("what is written is read, and replaces what there was") {
  const Folder folder;
  const std::string path = folder.path("file");
  for (const std::size_t size : std::initializer_list<std::size_t>{100'000, 16 * 1024, 5, 0}) {
    const std::string text(size, 'x');
    REQUIRE(write_whole_file(path, text));
    CHECK(read_whole_file(path) == text);
  }
  CHECK(read_whole_file("/proc/self/status").value_or("").starts_with("Name:"));  // of size 0, says stat(2)
}

TEST_CASE("what cannot be read or written says why") {
  const Folder folder;
  CHECK(read_whole_file(folder.path("nothing")).error().is(ENOENT));
  CHECK(read_whole_file(folder.path()).error().is(EISDIR));
  CHECK(write_whole_file(folder.path("no/folder"), "x").error().is(ENOENT));
  CHECK(write_whole_file("/dev/full", "x").error().is(ENOSPC));
  REQUIRE(::symlink("file", folder.path("link").c_str()) == 0);
  CHECK(write_whole_file(folder.path("link"), "x").error().is(ELOOP));
}

}  // namespace
}  // namespace evlua
