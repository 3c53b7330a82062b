// Goal: files and paths from C++: what is written is read, failures carry the code, nothing is left behind.
#include "fs/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "fs/directory.h"
#include "fs/path_ops.h"
#include "tests/support/async.h"

namespace evlua::test {

namespace {

/// A directory that goes with all that is in it.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/evlua-file-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { CHECK(std::system(("rm -rf " + path_).c_str()) == 0); }
  /// Kept until the folder goes: a temporary has no place in the operand of a co_await (g++ 12).
  const std::string& operator/(std::string_view name) const {
    return names_.emplace_back(path_ + "/" + std::string(name));
  }

 private:
  std::string path_;
  mutable std::deque<std::string> names_;
};

constexpr std::int64_t kFar = 8LL << 30;

fs::OpenMode mode(std::string_view text) {
  const Result<fs::OpenMode> parsed = fs::parse_mode(text);
  CHECK(parsed);
  return parsed.value_or(fs::OpenMode{});
}

Task<std::string> content(std::string path) {
  Result<std::string> read = co_await fs::read_file(std::move(path), 1 << 20, patience());
  co_return read ? *read : "(" + read.error().describe() + ")";
}

void modes() {
  CHECK(mode("r").flags == O_RDONLY);
  CHECK(mode("r+b").flags == O_RDWR);
  CHECK(mode("w").flags == (O_WRONLY | O_CREAT | O_TRUNC));
  CHECK(mode("w+x").flags == (O_RDWR | O_CREAT | O_TRUNC | O_EXCL));
  CHECK(mode("a").append);
  for (const char* wrong : {"", "q", "rw", "r++", "rx", "wxx"}) CHECK_FALSE(fs::parse_mode(wrong));
}

Task<void> reads_and_writes(Env&) {
  const Folder folder;
  const std::string& path = folder / "data";
  Result<fs::File> opened = co_await fs::File::open(folder / "data", mode("w+"), 0600, patience());
  CHECK(opened);
  if (!opened) co_return;
  fs::File file = std::move(*opened);
  const Result<void> wrote = co_await file.write_at("0123456789", 0, patience());
  const Result<void> over = co_await file.write_at("AB", 8, patience());
  const Result<void> far = co_await file.write_at("z", kFar, patience());
  CHECK(wrote);
  CHECK(over);
  CHECK(far);
  char bytes[16] = {};
  const Result<std::size_t> middle = co_await file.read_at(bytes, 4, 6, patience());
  CHECK(middle.value_or(0) == 4);
  CHECK(std::string_view(bytes, 4) == "67AB");
  const Result<std::size_t> distant = co_await file.read_at(bytes, 16, kFar, patience());
  CHECK(distant.value_or(0) == 1);
  const Result<std::size_t> beyond = co_await file.read_at(bytes, 16, 2 * kFar, patience());
  CHECK(beyond.value_or(9) == 0);
  const Result<void> cut = co_await file.truncate(10, patience());
  const Result<void> synced = co_await file.sync(true, patience());
  CHECK(cut);
  CHECK(synced);
  const Result<fs::FileInfo> info = co_await fs::stat(file.fd(), patience());
  CHECK(info);
  if (info) CHECK(info->size == 10);
  if (info) CHECK(info->permissions == 0600);
  const Result<void> closed = co_await file.close();
  CHECK(closed);
  const std::string whole = co_await content(path);
  CHECK(whole == "01234567AB");
}

Task<void> two_handles_append(Env&) {
  const Folder folder;
  Result<fs::File> first = co_await fs::File::open(folder / "log", mode("a"), 0600, patience());
  Result<fs::File> second = co_await fs::File::open(folder / "log", mode("a"), 0600, patience());
  CHECK((first && second));
  if (!first || !second) co_return;
  for (int i = 0; i < 10; ++i) {
    const Result<void> a = co_await first->write_at("a", -1, patience());
    const Result<void> b = co_await second->write_at("b", -1, patience());
    CHECK((a && b));
  }
  const std::string whole = co_await content(folder / "log");
  CHECK(whole == "abababababababababab");
}

Task<void> failures(Env&) {
  const Folder folder;
  const Result<fs::File> missing = co_await fs::File::open(folder / "none", mode("r"), 0, patience());
  CHECK_FALSE(missing);
  if (!missing) CHECK(missing.error().describe() == "open: no such file or directory");
  const Result<std::string> directory = co_await fs::read_file(folder / "", 100, patience());
  CHECK_FALSE(directory);
  if (!directory) CHECK(directory.error().is(EISDIR));
  fs::WriteOptions plain;
  const Result<void> full = co_await fs::write_file("/dev/full", "x", plain, patience());
  CHECK_FALSE(full);
  if (!full) CHECK(full.error().is(ENOSPC));
  const Result<void> written = co_await fs::write_file(folder / "big", "12345", plain, patience());
  CHECK(written);
  const Result<std::string> limited = co_await fs::read_file(folder / "big", 4, patience());
  CHECK_FALSE(limited);
  if (!limited) CHECK(limited.error().is(Errc::too_large));
  const Result<std::string> exact = co_await fs::read_file(folder / "big", 5, patience());
  CHECK(exact.value_or("") == "12345");
  Result<fs::File> once = co_await fs::File::open(folder / "big", mode("wx"), 0600, patience());
  CHECK_FALSE(once);
  if (!once) CHECK(once.error().is(EEXIST));
}

/// The limit holds for the file that is read, whichever was there when its size was looked at.
Task<void> replaced_while_read(Env&) {
  const Folder folder;
  const std::string& path = folder / "small";
  const std::string& other = folder / "large";
  const std::string large(1 << 20, 'x');
  fs::WriteOptions plain;
  const Result<void> wrote = co_await fs::write_file(path, "small", plain, patience());
  const Result<void> wrote_large = co_await fs::write_file(other, large, plain, patience());
  CHECK((wrote && wrote_large));
  std::atomic<bool> done{false};
  std::thread swaps([&] {
    while (!done.load()) (void)::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE);
  });
  std::size_t longest = 0;
  for (int i = 0; i < 5000; ++i) {
    const Result<std::string> read = co_await fs::read_file(path, 100, kNever);
    if (read) longest = std::max(longest, read->size());
    if (!read) CHECK(read.error().is(Errc::too_large));
  }
  done.store(true);
  swaps.join();
  CHECK(longest == 5);
}

Task<std::size_t> entries(std::string path) {
  Result<fs::Directory> directory = co_await fs::Directory::open(std::move(path));
  std::size_t count = 0;
  while (directory) {
    const Result<std::vector<fs::Entry>> batch = co_await directory->next_batch();
    if (!batch || batch->empty()) break;
    count += batch->size();
  }
  co_return count;
}

Task<void> atomic_writes(Env&) {
  const Folder folder;
  fs::WriteOptions secret;
  secret.permissions = 0600;
  fs::WriteOptions atomic;
  atomic.atomic = true;
  const Result<void> first = co_await fs::write_file(folder / "settings", "old", secret, patience());
  const Result<fs::File> reader = co_await fs::File::open(folder / "settings", mode("r"), 0, patience());
  const Result<void> linked = co_await fs::symlink(folder / "settings", folder / "link");
  const Result<void> second = co_await fs::write_file(folder / "link", "new", atomic, patience());
  CHECK((first && reader && linked && second));
  if (!reader) co_return;
  char bytes[8] = {};
  fs::File& old = const_cast<fs::File&>(*reader);
  const Result<std::size_t> seen = co_await old.read_at(bytes, 8, 0, patience());
  CHECK(std::string_view(bytes, seen.value_or(0)) == "old");
  const std::string now = co_await content(folder / "settings");
  CHECK(now == "new");
  const Result<fs::FileInfo> info = co_await fs::stat(folder / "settings", false, patience());
  CHECK(info);
  if (info) CHECK(info->permissions == 0600);
  const Result<fs::FileInfo> link = co_await fs::stat(folder / "link", false, patience());
  if (link) CHECK(std::string_view(link->type) == "link");
  // Nothing can replace a directory; what was written beside it is gone again.
  const Result<void> made = co_await fs::mkdir(folder / "taken", 0700, false, patience());
  const Result<void> refused = co_await fs::write_file(folder / "taken", "x", atomic, patience());
  CHECK(made);
  CHECK_FALSE(refused);
  const std::size_t left = co_await entries(folder / "");
  CHECK(left == 3);
}

Task<void> paths(Env&) {
  const Folder folder;
  const Result<void> made = co_await fs::mkdir(folder / "a/b/c//", 0700, true, patience());
  const Result<void> again = co_await fs::mkdir(folder / "a/b/c", 0700, true, patience());
  CHECK((made && again));
  const Result<fs::FileInfo> deepest = co_await fs::stat(folder / "a/b/c", true, patience());
  CHECK(deepest);
  if (deepest) CHECK(deepest->permissions == 0700);
  const Result<void> not_empty = co_await fs::rmdir(folder / "a", patience());
  CHECK_FALSE(not_empty);
  if (!not_empty) CHECK(not_empty.error().is(ENOTEMPTY));
  const Result<void> renamed = co_await fs::rename(folder / "a/b", folder / "z\n\xff", patience());
  CHECK(renamed);
  const Result<std::string> real = co_await fs::realpath(folder / "z\n\xff/../a/.");
  CHECK(real.value_or("") == folder / "a");
  const Result<void> gone = co_await fs::unlink(folder / "none", patience());
  CHECK_FALSE(gone);
  if (!gone) CHECK(gone.error().describe() == "remove: no such file or directory");
  for (int i = 0; i < 700; ++i) CHECK(::mkdir((folder / ("a/" + std::to_string(i))).c_str(), 0700) == 0);
  const std::size_t many = co_await entries(folder / "a");
  const std::size_t none = co_await entries(folder / "a/0");
  CHECK(many == 700);
  CHECK(none == 0);
}

}  // namespace

TEST_CASE("modes are those of fopen, with x") { modes(); }
TEST_CASE("bytes are read where they were written, also beyond 8 GiB") { on_backends(reads_and_writes); }
TEST_CASE("handles that append never overwrite each other") { on_backends(two_handles_append); }
TEST_CASE("failures carry the code and the operation") { on_backends(failures); }
TEST_CASE("a file that is replaced while it is read keeps to the limit") { on_backends(replaced_while_read); }
TEST_CASE("an atomic write keeps readers, permissions and links, and leaves nothing behind") {
  on_backends(atomic_writes);
}
TEST_CASE("paths: made with parents, renamed, resolved, listed") { on_backends(paths); }

}  // namespace evlua::test
