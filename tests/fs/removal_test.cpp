// Goal: a tree goes with few descriptors, however deep it is; and nothing else does, whatever others move meanwhile.
//
// Each body runs in a process of its own that may do little and has few descriptors: what goes wrong here removes what
// it should not.
#include "fs/removal.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "tests/support/descriptors.h"
#include "tests/support/doctest.h"

namespace evlua::test {

namespace {

constexpr uid_t kNobody = 65534;
constexpr rlim_t kDescriptors = 40;
constexpr std::size_t kMany = 1000000;

void require(bool holds, const char* what, int line) {
  if (holds) return;
  std::fprintf(stderr, "line %d: %s (errno %d)\n", line, what, errno);
  std::_Exit(1);
}
#define REQUIRE_HERE(condition) require((condition), #condition, __LINE__)

/// `body` in an empty directory, which is the working directory.
void unprivileged(void (*body)()) {
  char folder[] = "/tmp/evlua-removal-XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  REQUIRE(::chmod(folder, 0777) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    REQUIRE_HERE(::chdir(folder) == 0);
    if (::geteuid() == 0) {
      REQUIRE_HERE(::setresgid(kNobody, kNobody, kNobody) == 0 && ::setresuid(kNobody, kNobody, kNobody) == 0);
    }
    REQUIRE_HERE(::geteuid() != 0);
    const rlimit few = {kDescriptors, kDescriptors};
    REQUIRE_HERE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    body();
    std::_Exit(0);
  }
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(std::system(("rm -rf " + std::string(folder)).c_str()) == 0);
}

void make_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  REQUIRE_HERE(fd >= 0);
  (void)::close(fd);
}

bool exists(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0;
}

/// tree/d/d/d...: each with a file beside.
void make_deep(int depth) {
  REQUIRE_HERE(::mkdir("tree", 0700) == 0);
  int at = ::open("tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (int level = 0; level < depth; ++level) {
    REQUIRE_HERE(::mkdirat(at, "d", 0700) == 0);
    const int file = ::openat(at, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    const int inner = ::openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE_HERE(file >= 0 && inner >= 0);
    (void)::close(file);
    (void)::close(std::exchange(at, inner));
  }
  (void)::close(at);
}

std::string inside(int depth) {
  std::string path = "tree";
  for (int i = 0; i < depth; ++i) path += "/d";
  return path;
}

void deep() {
  make_deep(5000);
  const std::size_t before = count_descriptors();
  fs::Removal removal("tree");
  std::size_t most = 0;
  while (!removal.done()) {
    REQUIRE_HERE(removal.go_on(100) == 0);
    most = std::max(most, count_descriptors());
  }
  REQUIRE_HERE(!exists("tree"));
  REQUIRE_HERE(most <= before + fs::Removal::kOpenMax && count_descriptors() == before);
}

void few_descriptors() {
  make_deep(200);
  int last = -1;
  for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) last = fd;  // all but three
  REQUIRE_HERE(last > 3);
  for (int i = 0; i < 3; ++i) (void)::close(last - i);
  fs::Removal removal("tree");
  REQUIRE_HERE(removal.go_on(kMany) == 0 && removal.done() && !exists("tree"));
}

void wide() {
  make_deep(60);
  for (const int depth : {0, 5, 30, 59}) {
    for (int i = 0; i < 50; ++i) {
      const std::string path = inside(depth) + "/" + std::to_string(i);
      REQUIRE_HERE(::mkdir(path.c_str(), 0700) == 0 && ::mkdir((path + "/x").c_str(), 0700) == 0);
      make_file(path + "/x/file");
    }
  }
  fs::Removal removal("tree", 2);
  REQUIRE_HERE(removal.go_on(kMany) == 0 && removal.done() && !exists("tree"));
}

void make_victim() {
  REQUIRE_HERE(::mkdir("victim", 0700) == 0 && ::mkdir("victim/inner", 0700) == 0);
  make_file("victim/keep");
  make_file("victim/inner/keep");
}

bool victim_is_whole() { return exists("victim/keep") && exists("victim/inner/keep"); }

/// Until the file in the directory of that depth has gone, which is on the way out.
void go_on_until_gone(fs::Removal& removal, const std::string& path) {
  for (int i = 0; i < 100000 && exists(path); ++i) REQUIRE_HERE(removal.go_on(1) == 0);
  REQUIRE_HERE(!exists(path));
}

/// A directory that it is in is moved somewhere else, and ".." leads there, whatever is open.
void moved_away() {
  constexpr int kDepth = 40;
  for (int moved = 1; moved < kDepth; ++moved) {
    make_deep(kDepth);
    make_file(inside(kDepth) + "/innermost");
    make_victim();
    fs::Removal removal("tree", 4);
    go_on_until_gone(removal, inside(kDepth) + "/innermost");
    REQUIRE_HERE(::rename(inside(moved).c_str(), "victim/moved") == 0);
    REQUIRE_HERE(removal.go_on(kMany) == 0 && removal.done());
    REQUIRE_HERE(!exists("tree") && victim_is_whole());
    fs::Removal rest("victim");
    REQUIRE_HERE(rest.go_on(kMany) == 0 && !exists("victim"));
  }
}

void replaced_by_a_link() {
  make_victim();
  char* here = ::get_current_dir_name();
  const std::string victim = std::string(here) + "/victim";
  std::free(here);
  for (const int depth : {1, 20, 38, 39, 40}) {
    make_deep(40);
    make_file(inside(40) + "/innermost");
    REQUIRE_HERE(::symlink("../victim", "tree/link") == 0);
    fs::Removal removal("tree", 4);
    go_on_until_gone(removal, inside(40) + "/innermost");
    REQUIRE_HERE(::rename(inside(depth).c_str(), "elsewhere") == 0);
    REQUIRE_HERE(::symlink(victim.c_str(), inside(depth).c_str()) == 0);
    REQUIRE_HERE(removal.go_on(kMany) == 0 && removal.done() && !exists("tree"));
    REQUIRE_HERE(victim_is_whole());
    fs::Removal rest("elsewhere");
    REQUIRE_HERE(rest.go_on(kMany) == 0);
  }
  fs::Removal to_link("victim/../victim/link");
  REQUIRE_HERE(::symlink("inner", "victim/link") == 0);
  REQUIRE_HERE(to_link.go_on(kMany) == 0 && victim_is_whole() && !exists("victim/link"));
}

/// Who moves directories all the time is not followed for ever.
void no_progress() {
  make_deep(10);
  for (int depth = 0; depth < 10; ++depth) REQUIRE_HERE(::unlink((inside(depth) + "/file").c_str()) == 0);
  make_victim();
  fs::Removal removal("tree", 2);
  REQUIRE_HERE(removal.go_on(11) == 0);  // it is in the innermost one, perhaps, and has removed nothing
  int error = 0;
  for (int i = 0; error == 0 && !removal.done() && i < 1000; ++i) {
    // The innermost three are emptied from within; above, nothing is where it was.
    if (exists(inside(6))) REQUIRE_HERE(::rename(inside(6).c_str(), "victim/moved") == 0);
    error = removal.go_on(1);
    if (exists("victim/moved") && !exists(inside(6))) (void)::rename("victim/moved", inside(6).c_str());
  }
  REQUIRE_HERE((error == EBUSY || removal.done()) && victim_is_whole());
}

void failures() {
  fs::Removal none("none");
  REQUIRE_HERE(none.go_on(1) == ENOENT && !none.done());
  make_file("file");
  fs::Removal file("file");
  REQUIRE_HERE(file.go_on(1) == 0 && file.done() && !exists("file"));
  make_deep(3);
  REQUIRE_HERE(::chmod(inside(2).c_str(), 0500) == 0);
  fs::Removal refused("tree");
  REQUIRE_HERE(refused.go_on(kMany) == EACCES && exists(inside(3)));
  REQUIRE_HERE(::chmod(inside(2).c_str(), 0700) == 0);
}

}  // namespace

TEST_CASE("a tree 5000 deep goes with a few descriptors") { unprivileged(deep); }
TEST_CASE("with the last three descriptors it goes, too") { unprivileged(few_descriptors); }
TEST_CASE("directories are found again on the way out") { unprivileged(wide); }
TEST_CASE("a directory that is moved away takes nobody with it") { unprivileged(moved_away); }
TEST_CASE("links are not followed, whenever they are made") { unprivileged(replaced_by_a_link); }
TEST_CASE("who moves directories all the time keeps only us from removing them") { unprivileged(no_progress); }
TEST_CASE("failures are told") { unprivileged(failures); }

}  // namespace evlua::test
