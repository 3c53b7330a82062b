#include "fs/tree.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "core/io_await.h"
#include "core/time.h"
#include "core/whole_file.h"
#include "fs/path_ops.h"
#include "fs/pooled.h"

namespace evlua::fs {

// -- copying --------------------------------------------------------------------------------------------------------

namespace {

/// So much is copied before somebody looks at the clock.
constexpr std::size_t kCopyAtOnce = 16U << 20;
/// So long is copied before somebody looks whether it is still wanted. Each time the copy changes threads, twice, for
/// which it waits long where the processors are busy.
constexpr Duration kCopyTurn = 100 * kMillisecond;
constexpr std::size_t kCopyBuffer = 256U << 10;

constexpr std::uint64_t kToTheEnd = UINT64_MAX;

/// A copy that goes on from call to call, at the positions of the two files.
struct Copy {
  int from = -1;
  int to = -1;
  bool by_kernel = true;
  bool any = false;
  bool done = false;
  std::uint64_t left = kToTheEnd;  // in front of a hole
  std::unique_ptr<char[]> buffer;
};

bool cannot_by_kernel(int error) noexcept {
  return error == EXDEV || error == EINVAL || error == EOPNOTSUPP || error == ENOSYS || error == EPERM || error == EIO;
}

int copy_some_by_kernel(Copy& copy) noexcept {
  const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(kCopyAtOnce, copy.left));
  const ssize_t copied = ::copy_file_range(copy.from, nullptr, copy.to, nullptr, most, 0);
  if (copied > 0) {
    copy.any = true;
    copy.left -= static_cast<std::uint64_t>(copied);
    return 0;
  }
  if (copied < 0 && errno == EINTR) return 0;
  if (copied < 0 && (copy.any || !cannot_by_kernel(errno))) return errno;
  // Files of /proc have no size, and content all the same.
  if (copied == 0 && copy.any) {
    copy.done = true;
  } else {
    copy.by_kernel = false;
  }
  return 0;
}

int copy_some_by_hand(Copy& copy) {
  if (copy.buffer == nullptr) copy.buffer.reset(new char[kCopyBuffer]);
  for (std::size_t copied = 0; copied < kCopyAtOnce && copy.left > 0; copied += kCopyBuffer) {
    const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(kCopyBuffer, copy.left));
    const ssize_t got = ::read(copy.from, copy.buffer.get(), most);
    if (got < 0) return errno == EINTR ? 0 : errno;
    if (got == 0) {
      copy.done = true;
      return 0;
    }
    const int error = write_all(copy.to, {copy.buffer.get(), static_cast<std::size_t>(got)});
    if (error != 0) return error;
    copy.left -= static_cast<std::uint64_t>(got);
  }
  return 0;
}

/// Goes on where there is data again. From the end on, and if the file system does not tell, everything is copied.
int pass_hole(Copy& copy) noexcept {
  const off_t at = ::lseek(copy.from, 0, SEEK_CUR);
  const off_t size = ::lseek(copy.from, 0, SEEK_END);
  off_t data = ::lseek(copy.from, at, SEEK_DATA);
  if (data < 0 && errno == ENXIO) {
    // The file may grow or shrink while we look: only what was inside of it all the time is a hole.
    data = std::max(at, std::min(size, ::lseek(copy.from, 0, SEEK_END)));
  }
  const off_t end = data < 0 ? -1 : ::lseek(copy.from, data, SEEK_HOLE);
  const off_t next = std::max(at, data);
  copy.left = end > next ? static_cast<std::uint64_t>(end - next) : kToTheEnd;
  if (::lseek(copy.from, next, SEEK_SET) < 0) return errno;
  return ::lseek(copy.to, next, SEEK_SET) < 0 ? EFBIG : 0;  // no file there can be as large
}

int copy_for_a_turn(Copy& copy) {
  const Instant until = monotonic_now() + kCopyTurn;
  int error = 0;
  do {
    if (copy.left == 0) {
      error = pass_hole(copy);
    } else {
      error = copy.by_kernel ? copy_some_by_kernel(copy) : copy_some_by_hand(copy);
    }
  } while (error == 0 && !copy.done && monotonic_now() < until);
  return error;
}

int make_alike(int from, int to, bool preserve) noexcept {
  struct stat info {};
  struct stat target {};
  if (::fstat(from, &info) != 0 || ::fstat(to, &target) != 0) return errno;
  if (!S_ISREG(target.st_mode)) return 0;  // such as /dev/null
  // Nothing has been written behind the last hole.
  const off_t end = ::lseek(to, 0, SEEK_CUR);
  if (end > target.st_size && ::ftruncate(to, end) != 0) return errno;
  const bool same_owner = preserve && ::fchown(to, info.st_uid, info.st_gid) == 0;
  // Programs that run as their owner must not come to run as another one.
  if (::fchmod(to, info.st_mode & (same_owner ? 07777 : 0777)) != 0) return errno;
  const timespec times[2] = {info.st_atim, info.st_mtim};
  return !preserve || ::futimens(to, times) == 0 ? 0 : errno;
}

/// EINVAL for a file and itself, and for what has no end or nothing to copy. Empties the target.
int begin_copy(Copy& copy) noexcept {
  struct stat source {};
  struct stat target {};
  if (::fstat(copy.from, &source) != 0 || ::fstat(copy.to, &target) != 0) return errno;
  if (source.st_dev == target.st_dev && source.st_ino == target.st_ino) return EINVAL;
  (void)::posix_fadvise(copy.from, 0, 0, POSIX_FADV_SEQUENTIAL);  // what is not in memory is read further ahead
  // Most files have no holes, and need not be asked where. A device would keep what it has at the place of one.
  const bool may_have_holes = source.st_blocks < source.st_size / 512;
  if (may_have_holes && S_ISREG(target.st_mode)) copy.left = 0;
  // Not where there is nothing: ext4 would take the copy for a new version of the file, and begin to write it to the
  // disk when it is closed.
  return S_ISREG(target.st_mode) && target.st_size != 0 && ::ftruncate(copy.to, 0) != 0 ? errno : 0;
}

Task<Result<void>> copy_content(const File& from, const File& to, bool preserve) {
  Copy copy;
  copy.from = from.fd();
  copy.to = to.fd();
  Result<void> outcome = co_await pooled([&copy] { return begin_copy(copy); });
  while (outcome && !copy.done) {
    outcome = co_await pooled([&copy] { return copy_for_a_turn(copy); });
  }
  if (outcome) outcome = co_await pooled([&] { return make_alike(from.fd(), to.fd(), preserve); });
  co_return outcome;
}

struct Target {
  File file;
  bool is_new = true;
};

Task<Result<Target>> open_target(std::string path, bool overwrite) {
  const OpenMode fresh{O_WRONLY | O_CREAT | O_EXCL, false};
  std::string name = path;
  Result<File> file = co_await File::open(std::move(name), fresh, 0600);
  if (file) co_return Target{std::move(*file), true};
  if (!overwrite || !file.error().is(EEXIST)) co_return fail(file.error());
  const OpenMode existing{O_WRONLY, false};
  file = co_await File::open(std::move(path), existing, 0);
  if (!file) co_return fail(file.error());
  co_return Target{std::move(*file), false};
}

}  // namespace

Task<Result<void>> copy_file(std::string from, std::string to, CopyOptions options) {
  const OpenMode reading{O_RDONLY | O_NONBLOCK, false};  // a FIFO would wait for a writer
  Result<File> source = co_await File::open(std::move(from), reading, 0);
  if (!source) co_return fail(source.error());
  const Result<FileInfo> info = co_await stat(source->fd());
  if (!info) co_return fail(info.error());
  if (std::strcmp(info->type, "directory") == 0) co_return fail(EISDIR);
  if (std::strcmp(info->type, "file") != 0) co_return fail(EINVAL);
  std::string name = to;
  Result<Target> target = co_await open_target(std::move(name), options.overwrite);
  if (!target) co_return fail(target.error());
  Result<void> outcome = co_await copy_content(*source, target->file, options.preserve);
  if (outcome) outcome = co_await target->file.close();
  if (!outcome && target->is_new) (void)::unlink(to.c_str());  // also when we are cancelled
  co_return outcome;
}

// -- temporary names ------------------------------------------------------------------------------------------------

namespace {

constexpr int kAttempts = 100;

std::string random_name(const TemporaryName& name) {
  static constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::string path = name.directory;
  if (path.empty()) {
    const char* usual = std::getenv("TMPDIR");
    path = usual != nullptr && *usual != '\0' ? usual : "/tmp";
  }
  path.append("/").append(name.prefix);
  unsigned char random[12] = {};
  (void)!::getrandom(random, sizeof random, 0);
  for (const unsigned char byte : random) path += kLetters[byte % (sizeof kLetters - 1)];
  return path.append(name.suffix);
}

}  // namespace

Task<Result<std::pair<File, std::string>>> make_temporary_file(TemporaryName name) {
  const OpenMode fresh{O_RDWR | O_CREAT | O_EXCL, false};
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::string path = random_name(name);
    std::string opened = path;
    Result<File> file = co_await File::open(std::move(opened), fresh, 0600);
    if (file) co_return std::pair<File, std::string>(std::move(*file), std::move(path));
    if (!file.error().is(EEXIST)) co_return fail(file.error());
  }
  co_return fail(EEXIST, OpCode::open);
}

Task<Result<std::string>> make_temporary_directory(TemporaryName name) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::string path = random_name(name);
    std::string made = path;
    const Result<void> done = co_await mkdir(std::move(made), 0700, false);
    if (done) co_return path;
    if (!done.error().is(EEXIST)) co_return fail(done.error());
  }
  co_return fail(EEXIST, OpCode::mkdir);
}

}  // namespace evlua::fs
