// Goal: what root leaves to another user is what was meant, and nothing else.
#include "tools/service.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "tests/support/doctest.h"
#include "tests/support/folder.h"

namespace evlua::tools {
namespace {

using test::Folder;

void make_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  ::close(fd);
}

uid_t owner(const std::string& path) {
  struct stat about {};
  REQUIRE(::lstat(path.c_str(), &about) == 0);
  return about.st_uid;
}

TEST_CASE("a socket is given away, and not by another name of it") {
  if (::geteuid() != 0) return;
  const Folder folder;
  const Account account{"nobody", 65534, 65534};
  make_socket(folder.path("ours"));
  give_socket_to(folder.path("ours"), account);
  CHECK(owner(folder.path("ours")) == 65534);
  // What the user may have put in place of a socket that we had just made.
  make_socket(folder.path("another's"));
  REQUIRE(::link(folder.path("another's").c_str(), folder.path("link").c_str()) == 0);
  REQUIRE(::symlink(folder.path("another's").c_str(), folder.path("symlink").c_str()) == 0);
  give_socket_to(folder.path("link"), account);
  give_socket_to(folder.path("symlink"), account);
  CHECK(owner(folder.path("another's")) == 0);
}

}  // namespace
}  // namespace evlua::tools
